"""The noise-prediction loop, on accelerate: any device, any number of processes, mixed precision, exact resume.

Every random number of a step is drawn from the seed and the step's own number, on the CPU, for the whole batch of all
processes: a resumed run, a run on another device and a run on more processes see the same images, noise and times.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import FiltersubError
from ..memory import PeakMemory
from ..training.accelerator import new_accelerator
from .denoising_config import OPTIMIZERS, DenoisingConfig, DenoisingSet
from .state import TrainingState


@dataclass(frozen=True)
class DenoisingResult:
    """What training leaves behind, beside the trained network.

    Attributes
    ----------
    history : one row a step: step, loss (mean squared error of the prediction), learning_rate
    seconds_per_step : median over the steps of this process; nan where there was none
    peak_memory_bytes : of the GPU's allocator, or the largest resident set of the process on a CPU
    ema_decay_reached : decay of the average in the last step; None where none is kept
    """

    history: list[dict[str, float]]
    seconds_per_step: float
    peak_memory_bytes: int
    device: str
    mixed_precision: str
    resumed_from_step: int = 0
    ema_decay_reached: float | None = None


def fit_denoiser(
    unet: nn.Module,
    noise: Any,
    data: DenoisingSet,
    config: DenoisingConfig,
    *,
    folder: str | os.PathLike[str] | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
    on_preview: Callable[[int], None] | None = None,
) -> DenoisingResult:
    """Train what requires a gradient to predict the noise (Ho et al., 2020), or the scheduler's other target.

    Parameters
    ----------
    unet : UNet2DConditionModel or UNet2DModel of diffusers; trained in place
    noise : training scheduler of diffusers (DDPMScheduler); its prediction_type says what is predicted
    folder : where the checkpoint lives; None keeps none. A checkpoint of other settings or data is refused.
    on_step : called with each row of the history; on_preview : with the step, on the main
        process, while the network holds what it would end with (the average, where one is kept)

    Raises FiltersubError when nothing is trainable, when the data does not fit the network, when the loss is not finite
    (the last checkpoint stays), and when the checkpoint cannot be used.
    """
    _check_fits(unet, data)
    accelerator = new_accelerator(_precision(config.mixed_precision), gradient_accumulation_steps=config.accumulation)
    parts = accelerator.num_processes * config.accumulation
    if config.batch_size % parts:
        raise FiltersubError(f"a batch of {config.batch_size} cannot be shared by {parts} processes and parts")
    trained = [p for p in unet.parameters() if p.requires_grad]
    if not trained:
        raise FiltersubError("nothing to train: no parameter of the network requires a gradient")
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    optimizer = OPTIMIZERS[config.optimizer](trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    network, optimizer = accelerator.prepare(unet, optimizer)
    state = TrainingState(unet, optimizer, accelerator, config, data, folder)
    history = state.resume()
    start, durations = len(history), []
    on_device = _on_device(data, accelerator.device)
    with PeakMemory(accelerator.device) as memory:
        for step in range(start, config.steps):
            began = time.perf_counter()
            rate = config.learning_rate * _factor(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            draw = _Draw(step, config, len(data), noise.config.num_train_timesteps, data.means.shape[1:])
            loss_sum = torch.zeros((), device=accelerator.device)
            for part in range(config.accumulation):
                own = _own_share(part, accelerator, config)
                with accelerator.accumulate(network):
                    loss = _loss(network, noise, on_device, draw, own, accelerator)
                    accelerator.backward(loss)
                    if config.max_grad_norm is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(trained, config.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                loss_sum += loss.detach() / config.accumulation
            value = float(accelerator.reduce(loss_sum, "mean"))
            _check_finite(value, step, state)
            state.average()
            row = {"step": step + 1, "loss": value, "learning_rate": rate}
            history.append(row)
            durations.append(time.perf_counter() - began)
            if on_step is not None:
                on_step(row)
            if not accelerator.is_main_process:
                continue
            if step + 1 == config.steps or (step + 1) % config.checkpoint_every == 0:
                state.keep(history)
            if on_preview is not None and config.preview_every and (step + 1) % config.preview_every == 0:
                unet.eval()
                with state.averaged():
                    on_preview(step + 1)
                unet.train()
    state.finish()
    unet.eval()
    if config.gradient_checkpointing:
        unet.disable_gradient_checkpointing()
    return DenoisingResult(
        history,
        float(torch.tensor(durations).median()) if durations else math.nan,
        memory.bytes,
        str(accelerator.device),
        accelerator.mixed_precision,
        start,
        state.decay_reached,
    )


class _Draw:
    """The random numbers of one step, for the whole batch: images, their latents, noise, times, prompts left out."""

    def __init__(self, step: int, config: DenoisingConfig, count: int, times: int, shape: torch.Size) -> None:
        random = torch.Generator().manual_seed((config.seed << 32) + step)
        size = config.batch_size
        places = torch.arange(step * size, (step + 1) * size)
        self.images = torch.cat([_epoch(int(e), count, config.seed)[places[places // count == e] % count]
                                 for e in (places // count).unique()])  # fmt: skip
        self.noise = torch.randn(size, *shape, generator=random)
        self.posterior = torch.randn(size, *shape, generator=random)
        self.times = torch.randint(times, (size,), generator=random)
        self.empty = torch.rand(size, generator=random) < config.condition_dropout
        self.mirrored = (torch.rand(size, generator=random) < 0.5) & config.flip


def _epoch(number: int, count: int, seed: int) -> Tensor:
    """The order of images in one pass over them."""
    return torch.randperm(count, generator=torch.Generator().manual_seed((seed << 32) + (1 << 31) + number))


def _loss(
    network: nn.Module, noise: Any, data: DenoisingSet, draw: _Draw, own: slice, accelerator: Accelerator
) -> Tensor:
    device = accelerator.device
    images, added, times = draw.images[own].to(device), draw.noise[own].to(device), draw.times[own].to(device)
    clean = data.means[images]
    if data.deviations is not None:
        clean = clean + data.deviations[images] * draw.posterior[own].to(device)
    mirrored = draw.mirrored[own].to(device).view(-1, 1, 1, 1)
    clean = torch.where(mirrored, clean.flip(3), clean)
    noisy = noise.add_noise(clean, added, times)
    options = {}
    if data.embeddings is not None and data.prompts is not None:
        chosen = torch.where(draw.empty[own].to(device), 0, data.prompts[images])
        options["encoder_hidden_states"] = data.embeddings[chosen]
    with accelerator.autocast():
        predicted = network(noisy, times, return_dict=False, **options)[0]
    return nn.functional.mse_loss(predicted.float(), _target(noise, clean, added, times))


def _target(noise: Any, clean: Tensor, added: Tensor, times: Tensor) -> Tensor:
    kind = noise.config.prediction_type
    if kind == "epsilon":
        return added
    if kind == "v_prediction":
        return noise.get_velocity(clean, added, times)
    if kind == "sample":
        return clean
    raise FiltersubError(f"the scheduler predicts {kind!r}; known: epsilon, v_prediction, sample")


def _on_device(data: DenoisingSet, device: torch.device) -> DenoisingSet:
    return DenoisingSet(*(None if part is None else part.to(device) for part in vars(data).values()))


def _own_share(part: int, accelerator: Accelerator, config: DenoisingConfig) -> slice:
    """This process's images of one part of the batch."""
    size = config.batch_size // (config.accumulation * accelerator.num_processes)
    start = (part * accelerator.num_processes + accelerator.process_index) * size
    return slice(start, start + size)


def _factor(step: int, config: DenoisingConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)))


def _check_fits(unet: nn.Module, data: DenoisingSet) -> None:
    expected, found = unet.config.in_channels, data.means.shape[1]
    if expected != found:
        raise FiltersubError(f"the UNet takes {expected} channels, the latents have {found}; use the VAE made for it")
    width = getattr(unet.config, "cross_attention_dim", None)
    if data.embeddings is not None and isinstance(width, int) and data.embeddings.shape[-1] != width:
        raise FiltersubError(
            f"the UNet attends to {width} numbers a token, the text encoder gives {data.embeddings.shape[-1]}"
        )


def _check_finite(loss: float, step: int, state: TrainingState) -> None:
    if not math.isfinite(loss):
        where = state.path is not None and state.kept_step
        kept = f"; the state after step {state.kept_step} is kept in {state.path.parent}" if where else ""
        raise FiltersubError(f"the loss became {loss} in step {step + 1}; lower the learning rate{kept}")


def _precision(asked: str) -> str:
    if asked == "fp16" and not torch.cuda.is_available():
        raise FiltersubError("mixed precision fp16 needs a GPU; use bf16 or no")
    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
