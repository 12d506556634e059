"""What a denoising run is made of: its settings, and the images or latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import FiltersubError
from ..settings import check_number, check_whole

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
_KNOWN = {
    "optimizer": tuple(OPTIMIZERS),
    "mixed_precision": ("auto", "no", "bf16", "fp16"),
    "schedule": ("constant", "cosine"),
}


@dataclass(frozen=True)
class DenoisingConfig:
    """How a denoising network is trained; recorded whole with every run.

    Attributes
    ----------
    steps : of the optimiser (the paper: 5,000)
    batch_size : images a step, over all processes and accumulated parts
    accumulation : parts that a batch is computed in, one after another, to save memory
    optimizer : "adamw" (the paper's) or "adam"; learning_rate, weight_decay : its own
    warmup_steps : of linear warm-up; schedule : "constant" after it, or "cosine" down to zero
    max_grad_norm : gradients are scaled down to this norm; None leaves them
    condition_dropout : share of images whose prompt is left empty, for classifier-free guidance (Ho and Salimans, 2022)
    flip : mirror half of the images
    ema_decay : keep an exponential average of the trained weights, and end with it; None for none. At step t the decay
        is at most t / (t + 9) (diffusers), so that short runs do not end near their start: 0.957 after 200 steps
    mixed_precision : "no", "bf16", "fp16", or "auto": bf16 on a GPU that has it, else none
    gradient_checkpointing : recompute activations in the backward pass: less memory, about a third more time
    checkpoint_every : steps between two checkpoints; preview_every : between two calls of on_preview, 0 for none
    seed : of everything that is drawn
    """

    steps: int = 5000
    batch_size: int = 8
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 0
    schedule: str = "constant"
    max_grad_norm: float | None = 1.0
    condition_dropout: float = 0.0
    flip: bool = False
    ema_decay: float | None = None
    mixed_precision: str = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 500
    preview_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every"):
            check_whole(name, getattr(self, name), 1)
        for name in ("warmup_steps", "preview_every"):
            check_whole(name, getattr(self, name), 0)
        check_whole("seed", self.seed, 0, 2**31 - 1)  # a generator's seed holds it beside the step's number
        check_number("weight_decay", self.weight_decay, 0)
        if self.max_grad_norm is not None and not 0 < self.max_grad_norm < math.inf:
            raise FiltersubError(f"max_grad_norm must be a positive number, or None, got {self.max_grad_norm}")
        if not 0 < self.learning_rate < math.inf:
            raise FiltersubError(f"learning_rate must be a positive number, got {self.learning_rate}")
        if not 0 <= self.condition_dropout <= 1:
            raise FiltersubError(f"condition_dropout must be in 0..1, got {self.condition_dropout}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FiltersubError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")
        if self.batch_size % self.accumulation:
            raise FiltersubError(f"a batch of {self.batch_size} cannot be split into {self.accumulation} equal parts")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise FiltersubError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")


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
