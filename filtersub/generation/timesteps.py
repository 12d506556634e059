"""Which times a sampler asks the network at, and whether it walks from one to the next without leaving noise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import torch

from ..errors import FiltersubError
from ..settings import check_whole

_BY_RATIO = ("DDIM", "PNDM", "RePaint")  # schedulers of diffusers that go back by T // n, whichever time comes next
_START = 0.95  # share of the times that the first one, with one stride, must reach


def check_number_of_steps(steps: int, times: int = 1000) -> None:
    """Raises FiltersubError unless ``steps`` is a whole number from 1 to the ``times`` that a network knows."""
    check_whole("sampling_steps", steps, 1, times)


def spaced_ddim(config: Any, steps: int) -> tuple[Any, list[int]]:
    """A DDIM sampler of ``steps`` steps, and the time (0 to T - 1) that the network is asked at in each.

    DDIMScheduler goes back by T // n while it asks at multiples of T / n, which leaves noise where n does not divide T.
    Here the noise levels of the chosen times are a schedule of their own, with one step from each to the next (Nichol
    and Dhariwal, 2021); of T times, every (T / n)-th from the last one on ("trailing"; Lin et al., arXiv:2305.08891).

    Parameters
    ----------
    config : of a noise scheduler of diffusers

    Raises FiltersubError where ``steps`` is not in 1..T.
    """
    from diffusers import DDIMScheduler

    every = DDIMScheduler.from_config(config)
    total = every.config.num_train_timesteps
    check_number_of_steps(steps, total)
    asked = [(2 * total * place + steps) // (2 * steps) - 1 for place in range(1, steps + 1)]  # rounded, ascending
    kept = every.alphas_cumprod[asked]
    betas = 1 - kept / torch.cat([torch.ones(1), kept[:-1]])
    sampler = DDIMScheduler.from_config(
        config, num_train_timesteps=steps, trained_betas=betas.tolist(), timestep_spacing="leading", steps_offset=0
    )
    sampler.alphas_cumprod, sampler.final_alpha_cumprod = kept, every.final_alpha_cumprod  # without rounding
    sampler.set_timesteps(steps)
    return sampler, asked[::-1]


def check_sampling_steps(scheduler: Any, steps: int) -> None:
    """Raises FiltersubError where a scheduler of diffusers cannot walk ``steps`` steps from noise to an image.

    Refused are numbers outside 1..T, walks that begin far from pure noise, and, for the schedulers that go back by
    T // n, times that lie further apart. The message names the nearest numbers that work.
    """
    total = scheduler.config.num_train_timesteps
    check_number_of_steps(steps, total)
    tried = type(scheduler).from_config(scheduler.config)
    fault = _fault(tried, steps)
    if fault is None:
        return
    working = (str(other) for other in _nearest(steps, total) if _fault(tried, other) is None)
    near = list(islice(working, 2))
    instead = f"take {' or '.join(near)}" if near else 'set timestep_spacing to "leading" in its configuration'
    raise FiltersubError(f"sampling_steps {steps} does not suit {type(scheduler).__name__}: {fault}; {instead}")


def _fault(tried: Any, steps: int) -> str | None:
    """Why a scheduler cannot walk so many steps; its own times are set."""
    total = tried.config.num_train_timesteps
    try:
        tried.set_timesteps(steps)
    except Exception as error:  # schedulers refuse numbers in ways of their own
        return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    times = [float(time) for time in tried.timesteps]
    if max(times) >= total or min(times) < 0:
        return f"it would ask at time {max(times):g} of 0 to {total - 1}"
    if max(times) < max(0.45 * total, _START * total - total / steps):
        return f"it would begin at time {max(times):g} of {total}, where images are not yet noise"
    if type(tried).__name__.startswith(_BY_RATIO):
        ordered = sorted({int(time) for time in getattr(tried, "plms_timesteps", times)})
        ratio = total // steps
        gaps = {later - earlier for earlier, later in pairwise(ordered)}
        if gaps - {ratio} or ordered[0] - ratio > 0:
            apart = total / steps
            return f"it goes back by {ratio} where its times are {apart:.4g} apart, which leaves noise in the images"
    return None


def _nearest(steps: int, total: int) -> Iterator[int]:
    """Other numbers of steps, the nearest first, as far as half and twice as many."""
    for distance in range(1, steps + 1):
        yield from (other for other in (steps - distance, steps + distance) if steps / 2 <= other <= total)
