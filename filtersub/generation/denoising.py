"""Denoising networks trained by the loop of ``training``: which images and noise a step sees, and the loss.

Every random number of a step is drawn from the seed and the step's own number, on the CPU, for the whole batch of all
processes: a resumed run, a run on another device and a run on more processes see the same images, noise and times.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError, check_name
from ..settings import check_kind
from ..training.loop import Loop, LoopResult, Row
from .settings import DenoisingConfig, DenoisingSet


@dataclass(frozen=True, kw_only=True)
class DenoisingResult(LoopResult):
    """What training a denoising network leaves behind, beside LoopResult.

    Attributes
    ----------
    history : one row a step: step, loss (mean squared error of the prediction), learning_rate
    resumed_from_step : steps that a checkpoint had done before
    """

    resumed_from_step: int


def fit_denoiser(
    unet: nn.Module,
    noise: Any,
    data: DenoisingSet,
    config: DenoisingConfig,
    *,
    folder: str | os.PathLike[str] | None = None,
    on_step: Callable[[Row], None] | None = None,
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
    check_kind("data", data, DenoisingSet)
    check_kind("config", config, DenoisingConfig)
    _check_fits(unet, data)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    run = _Denoising(unet, noise, data, config, folder)
    run.on_step, run.on_preview = on_step, on_preview
    run.run()
    run.preview()
    if run.average is not None:
        run.average.settle()
    run.finish()
    unet.eval()
    if config.gradient_checkpointing:
        unet.disable_gradient_checkpointing()
    return DenoisingResult(**run.measured(), resumed_from_step=run.resumed)


class _Denoising(Loop):
    """Rounds are the steps between two checkpoints."""

    unit = "step"
    config: DenoisingConfig
    on_step: Callable[[Row], None] | None = None
    on_preview: Callable[[int], None] | None = None

    def __init__(
        self,
        unet: nn.Module,
        noise: Any,
        data: DenoisingSet,
        config: DenoisingConfig,
        folder: str | os.PathLike[str] | None,
    ) -> None:
        super().__init__(unet, config, folder=folder)
        parts = self.accelerator.num_processes * config.accumulation
        if config.batch_size % parts:
            raise FiltersubError(f"a batch of {config.batch_size} cannot be shared by {parts} processes and parts")
        of_data = {"data": [*data.means.shape], "sum of the data": float(data.means.double().sum())}
        self.begin(config.steps, config.warmup_steps, of_data)
        if len(self.history) > config.steps:
            raise FiltersubError(
                f"the checkpoint in {folder} is after step {len(self.history)}, and steps is {config.steps}; raise it, "
                "or use another folder"
            )
        self.noise, self.data = noise, data.to(self.accelerator.device)

    @property
    def is_done(self) -> bool:
        return len(self.history) >= self.config.steps

    def batches(self) -> Iterator[int]:
        done, every = len(self.history), self.config.checkpoint_every
        for step in range(done, min(done - done % every + every, self.config.steps)):
            self.preview()
            self.raw.train()
            yield step

    def preview(self) -> None:
        """After the checkpoint of the same step."""
        done, every = len(self.history), self.config.preview_every
        if self.on_preview is None or not (done and every) or done % every or not self.accelerator.is_main_process:
            return
        self.raw.eval()
        with self.averaged():
            self.on_preview(done)

    def tensors(self, step: int) -> tuple[Tensor, ...]:
        config, at = self.config, self.accelerator
        draw = _Draw(step, config, len(self.data), self.noise.config.num_train_timesteps, self.data.means.shape[1:])
        own = config.batch_size // at.num_processes
        return tuple(part[own * at.process_index :][:own].to(at.device) for part in vars(draw).values())

    def loss(
        self, images: Tensor, added: Tensor, posterior: Tensor, times: Tensor, empty: Tensor, mirrored: Tensor
    ) -> Tensor:
        data, clean = self.data, self.data.means[images]
        if data.deviations is not None:
            clean = clean + data.deviations[images] * posterior
        clean = torch.where(mirrored.view(-1, 1, 1, 1), clean.flip(3), clean)
        options = {}
        if data.embeddings is not None and data.prompts is not None:
            options["encoder_hidden_states"] = data.embeddings[torch.where(empty, 0, data.prompts[images])]
        predicted = self.model(self.noise.add_noise(clean, added, times), times, return_dict=False, **options)[0]
        return nn.functional.mse_loss(predicted.float(), _target(self.noise, clean, added, times))

    def after_step(self, own: float, everywhere: float) -> None:
        row = {"step": len(self.history) + 1, "loss": everywhere, "learning_rate": self.rate}
        self.history.append(row)
        if self.on_step is not None:
            self.on_step(row)


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


def _target(noise: Any, clean: Tensor, added: Tensor, times: Tensor) -> Tensor:
    kind = noise.config.prediction_type
    check_name("prediction of the scheduler", kind, ("epsilon", "v_prediction", "sample"))
    if kind == "epsilon":
        return added
    if kind == "v_prediction":
        return noise.get_velocity(clean, added, times)
    return clean


def _check_fits(unet: nn.Module, data: DenoisingSet) -> None:
    expected, found = unet.config.in_channels, data.means.shape[1]
    if expected != found:
        raise FiltersubError(f"the UNet takes {expected} channels, the latents have {found}; use the VAE made for it")
    width = getattr(unet.config, "cross_attention_dim", None)
    if data.embeddings is not None and isinstance(width, int) and data.embeddings.shape[-1] != width:
        raise FiltersubError(
            f"the UNet attends to {width} numbers a token, the text encoder gives {data.embeddings.shape[-1]}"
        )
