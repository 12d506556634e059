"""What a denoising run is made of: its settings, and the images or latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import FiltersubError
from ..settings import check_whole
from ..training.config import OptimizationConfig


@dataclass(frozen=True)
class DenoisingConfig(OptimizationConfig):
    """How a denoising network is trained, beside OptimizationConfig, here with the paper's AdamW and rate by default.

    Attributes
    ----------
    steps : of the optimiser (the paper: 5,000)
    warmup_steps : of linear warm-up
    condition_dropout : share of images whose prompt is left empty, for classifier-free guidance (Ho and Salimans, 2022)
    flip : mirror half of the images
    ema_decay : as in OptimizationConfig; at step t at most t / (t + 9), as in diffusers: 0.957 after 200 steps
    gradient_checkpointing : recompute activations in the backward pass: less memory, about a third more time
    checkpoint_every : steps between two checkpoints; preview_every : between two calls of on_preview, 0 for none
    """

    EMA_LAG: ClassVar[int] = 9
    WARMUP: ClassVar[str] = "warmup_steps"

    batch_size: int = 8
    weight_decay: float = 1e-2
    schedule: str = "constant"
    clip_norm: float | None = 1.0
    steps: int = 5000
    warmup_steps: int = 0
    condition_dropout: float = 0.0
    flip: bool = False
    gradient_checkpointing: bool = False
    checkpoint_every: int = 500
    preview_every: int = 0

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
