"""Images by a pipeline: one noise a place, the same for every method, written as they are made; grids of them; and
which times a sampler asks the network at.
"""

import json
import os
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FiltersubError, reason
from ..files import atomic_write, make_folder, write_json
from ..folder_lock import locks
from ..settings import check_number, check_whole

_SAMPLES_FILE = "samples.json"
_BY_RATIO = ("DDIM", "PNDM", "RePaint")  # schedulers of diffusers that go back by T // n, whichever time comes next
_START = 0.95  # share of the times that the first one, with one stride, must reach


@locks("folder")
def sample_images(
    pipeline: Any,
    prompts: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 7.5,
    size: int = 256,
    batch_size: int = 8,
    identity: str = "",
    on_image: Callable[[int, int], None] | None = None,
) -> Path:
    """One PNG a prompt into ``folder`` (00000.png, ...); images that are there already are kept.

    Image n starts from noise drawn on the CPU by seed + n, whatever the method, the batch and the device; samplers that
    add noise on the way (ancestral ones) draw it from the same place.

    Parameters
    ----------
    guidance : weight of the prompt (classifier-free guidance); 1 is none
    identity : what made the images; a folder of other ones is refused

    Raises FiltersubError as check_sampling does, when the folder holds images of other settings, and when an image
    comes out not finite.
    """
    check_sampling(pipeline, steps=steps, guidance=guidance, size=size, seed=seed, batch_size=batch_size)
    target = make_folder(folder)
    asked = {"prompts": list(prompts), "seed": seed, "steps": steps, "guidance": guidance, "size": size}
    _check_same(target, {**asked, "identity": identity})
    files = [target / f"{place:05d}.png" for place in range(len(prompts))]
    missing = [place for place, file in enumerate(files) if not file.exists()]
    step = pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, size // step, size // step)
    for start in range(0, len(missing), batch_size):
        places = missing[start : start + batch_size]
        own = [torch.Generator().manual_seed(seed + place) for place in places]  # of each image, to its last step
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in own])
        arrays = pipeline(
            [prompts[place] for place in places],
            latents=noise.to(pipeline.device, pipeline.unet.dtype),
            generator=own,
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=size,
            width=size,
            output_type="np",
        ).images
        if not np.isfinite(arrays).all():
            raise FiltersubError(f"images {places[0]} to {places[-1]} are not finite; use another precision or adapter")
        for place, array in zip(places, arrays, strict=True):
            save_png(torch.from_numpy((array * 255).round().astype(np.uint8)).permute(2, 0, 1), files[place])
        if on_image is not None:
            on_image(len(prompts) - len(missing) + start + len(places), len(prompts))
    return target


def check_sampling(pipeline: Any, *, steps: int, guidance: float, size: int, seed: int, batch_size: int) -> None:
    """Raises FiltersubError for settings that sample_images could not draw with; to be asked before a training."""
    check_sampling_steps(pipeline.scheduler, steps)
    check_number("guidance", guidance)
    check_whole("the batch of images drawn at once", batch_size, 1)
    check_whole("the seed of the first image", seed, 0, 2**62)
    step = pipeline.vae_scale_factor
    if size < step or size % step:
        raise FiltersubError(f"the image size must be a multiple of {step} (the VAE's step), got {size}")


def save_png(image: Tensor, file: Path) -> None:
    """A uint8 image (1 or 3, h, w), lossless: JPEG moves a Fréchet distance (Parmar et al., arXiv:2104.11222)."""
    array = image.permute(1, 2, 0).numpy()
    with atomic_write(file) as aside:
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(aside, format="PNG")


def grid(images: Tensor, columns: int = 8) -> Tensor:
    """uint8 images (n, c, h, w) as one (c, rows h, columns w), row by row; what is left over stays white."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    padded[:count] = images
    tiled = padded.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return tiled.reshape(channels, rows * height, columns * width)


def _check_same(folder: Path, asked: dict[str, Any]) -> None:
    file = folder / _SAMPLES_FILE
    if file.exists():
        try:
            same = json.loads(file.read_text(encoding="utf-8")) == asked
        except ValueError:
            same = False
        if not same:
            raise FiltersubError(f"{folder} holds samples of other settings; choose another folder, or remove it")
    write_json(file, asked)


def spaced_ddim(config: Any, steps: int) -> tuple[Any, list[int]]:
    """A DDIM sampler of ``steps`` steps, and the time (0 to T - 1) that the network is asked at in each.

    DDIMScheduler goes back by T // n while it asks at multiples of T / n, which leaves noise where n does not divide T.
    Here the noise levels of the chosen times are a schedule of their own, with one step from each to the next (Nichol
    and Dhariwal, 2021); of T times, every (T / n)-th from the last one on ("trailing"; Lin et al., arXiv:2305.08891).
    ``config`` is of a noise scheduler of diffusers.

    Raises FiltersubError where ``steps`` is not in 1..T.
    """
    from diffusers import DDIMScheduler

    every = DDIMScheduler.from_config(config)
    total = every.config.num_train_timesteps
    check_whole("sampling_steps", steps, 1, total)
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
    check_whole("sampling_steps", steps, 1, total)
    tried = type(scheduler).from_config(scheduler.config)
    fault = _fault(tried, steps)
    if fault is None:
        return
    others = sorted(range((steps + 1) // 2, min(2 * steps, total) + 1), key=lambda other: abs(other - steps))
    working = (str(other) for other in others[1:] if _fault(tried, other) is None)  # the first is ``steps`` itself
    near = list(islice(working, 2))
    instead = f"take {' or '.join(near)}" if near else 'set timestep_spacing to "leading" in its configuration'
    raise FiltersubError(f"sampling_steps {steps} does not suit {type(scheduler).__name__}: {fault}; {instead}")


def _fault(tried: Any, steps: int) -> str | None:
    """Why a scheduler cannot walk so many steps; its own times are set."""
    total = tried.config.num_train_timesteps
    try:
        tried.set_timesteps(steps)
    except Exception as error:  # schedulers refuse numbers in ways of their own
        return reason(error, 160)
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
