"""What a run of generation is made of: a method, a training, images or latents, and how many images are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import FiltersubError
from ..setting_fields import DenoisingFields, described
from ..settings import check_whole, select_fields
from ..training.config import OptimizationConfig
from .methods import PAPER_RATES, MethodSettings


@described
@dataclass(frozen=True)
class DenoisingConfig(DenoisingFields, OptimizationConfig):
    """How a denoising network is trained, beside OptimizationConfig, here with the paper's AdamW and rate by default.

    ``condition_dropout`` is for guidance as in Ho and Salimans (2022). At step t ``ema_decay`` is at most t / (t + 9),
    as in diffusers: 0.957 after 200 steps. ``preview_every`` steps lie between two calls of on_preview.
    """

    EMA_LAG: ClassVar[int] = 9
    WARMUP: ClassVar[str] = "warmup_steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "checkpoint_every"):
            check_whole(name, getattr(self, name), 1)
        for name in ("warmup_steps", "preview_every"):
            check_whole(name, getattr(self, name), 0)
        check_whole("seed", self.seed, 0, 2**31 - 1)  # a generator's seed holds it beside the step's number
        if not 0 <= self.condition_dropout <= 1:
            raise FiltersubError(f"condition_dropout must be in 0..1, got {self.condition_dropout}")
        if self.batch_size % self.accumulation:
            raise FiltersubError(f"a batch of {self.batch_size} cannot be split into {self.accumulation} equal parts")

    @property
    def identity(self) -> dict[str, Any]:
        # the length of a run and what it shows do not change its steps: a longer one may go on from a shorter one
        free = ("checkpoint_every", "preview_every", *(("steps",) if self.schedule == "constant" else ()))
        return {name: value for name, value in asdict(self).items() if name not in free}


@dataclass(frozen=True)
class DenoisingSet:
    """What is denoised: images or latents, with prompts where there are any.

    Attributes
    ----------
    means : float (n, c, h, w), scaled as the network expects
    deviations : of the posterior that latents are drawn from, like means, or None: the means themselves
    prompts : int64 (n,), places in ``embeddings``; None for an unconditional network
    embeddings : (k, length, width) of the distinct prompts; the first is the empty prompt
    """

    means: Tensor
    deviations: Tensor | None = None
    prompts: Tensor | None = None
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        return len(self.means)

    def to(self, device: torch.device) -> DenoisingSet:
        return DenoisingSet(*(None if part is None else part.to(device) for part in vars(self).values()))


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(MethodSettings, DenoisingConfig):
    """MethodSettings, DenoisingConfig, and beside them:

    Attributes
    ----------
    learning_rate : None takes the method's usual one
    images : drawn and compared; sampling_steps : of the sampler, for each image
    """

    learning_rate: float | None = None
    images: int
    sampling_steps: int

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", self.usual_rate)
        DenoisingConfig.__post_init__(self)
        check_whole("images", self.images, 0)

    @property
    def usual_rate(self) -> float:
        """The paper's."""
        return PAPER_RATES[self.method]

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        return f"{super().label}, SOAP" if self.optimizer == "soap" else super().label

    @property
    def tuned(self) -> MethodSettings:
        return select_fields(self, MethodSettings)

    @property
    def training(self) -> DenoisingConfig:
        return select_fields(self, DenoisingConfig)
