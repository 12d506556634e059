"""How a model is trained, as one checked object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import FiltersubError

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
BATCH_NORM = ("adapted", "frozen", "updated", "recomputed")
SCHEDULES = ("cosine", "constant")
COMPILERS = ("no", "inductor", "aot_eager", "eager")


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; recorded whole with every run.

    Attributes
    ----------
    epochs, batch_size : int; a batch is one step's images, over all processes and all its parts; the last, smaller
        batch of an epoch is dropped where more than one batch remains
    accumulation : parts that a batch is computed in, one after the other, before the step: less memory, the same
        gradient (up to batch norm's statistics, which are those of a part)
    optimizer : "adamw" or "adam" (the paper's validation experiment)
    learning_rate : float, the peak
    head_learning_rate : float, optional, the peak for the new head; default learning_rate
    weight_decay : float
    schedule : "cosine": half a cosine down to 0; "constant"
    warmup_epochs : float, of linear warm-up from 0 before that
    clip_norm : float, optional: gradients are scaled down to this Euclidean norm, over all trained parameters together
    ema_decay : float below 1, optional: judged and kept are averages of the weights over the steps with this decay
        (at step t at most t / (t + 10), so that short runs are not judged by their start)
    patience : int, optional: stop after this many epochs without a better accuracy on the validation images, and keep
        the weights of the best epoch; needs a split with validation images
    batch_norm : what becomes of the running statistics.
        "adapted": averaged over the training images once, before the first step, then frozen, so that training and
        judging compute the same function (AdaBN; Li et al., arXiv:1603.04779).
        "frozen": those of pretraining are kept.
        "updated": batch statistics while training, moving averages when judged, which lag behind the weights in runs of
        a few hundred steps.
        "recomputed": as "updated", but averaged anew over the training images after the last epoch (Wu and Johnson,
        arXiv:2105.07576), so that the last judgement is of the weights as they are; with patience after each epoch.
    mixed_precision : "no", "bf16", "fp16", or "auto": bf16 on a GPU that has it, else none
    channels_last : images and 4-d weights in memory with the channels last; the same mathematics, about half the time
        of a step on a CPU (benchmarks/training_step.py)
    compile : "no", or a backend of torch.compile: "inductor" (needs a C++ compiler), "aot_eager" or "eager"
    workers : processes that read images; 0 reads them in the training process
    seed : of the order of the images (and of dropout)
    """

    epochs: int = 8
    batch_size: int = 50
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    patience: int | None = None
    batch_norm: str = "recomputed"
    mixed_precision: str = "auto"
    channels_last: bool = True
    compile: str = "no"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FiltersubError(f"{name} must be at least 1, got {value}")
        for name in ("learning_rate", "head_learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise FiltersubError(f"{name} must be a positive number, got {value}")
        if self.accumulation > self.batch_size:
            raise FiltersubError(f"accumulation {self.accumulation} is more parts than a batch has images")
        if self.weight_decay < 0 or self.warmup_epochs < 0:
            raise FiltersubError("weight_decay and warmup_epochs must not be negative")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FiltersubError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if self.workers < 0:
            raise FiltersubError(f"workers must not be negative, got {self.workers}")
        _one_of("optimizer", self.optimizer, tuple(OPTIMIZERS))
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("batch_norm", self.batch_norm, BATCH_NORM)
        _one_of("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))
        _one_of("compile", self.compile, COMPILERS)

    @property
    def precision(self) -> str:
        """The mixed precision that this machine gives. Raises FiltersubError where it cannot."""
        on_gpu = torch.cuda.is_available()
        if self.mixed_precision == "fp16" and not on_gpu:
            raise FiltersubError("mixed_precision fp16 needs a GPU and there is none; use bf16 or no")
        if self.mixed_precision != "auto":
            return self.mixed_precision
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise FiltersubError(f"unknown {name} {value!r}; known: {', '.join(known)}")
