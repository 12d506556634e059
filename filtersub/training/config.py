"""How a model is trained, as one checked object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import FiltersubError

OPTIMIZERS = ("adamw", "adam", "soap")
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
    optimizer : "adamw"; "adam" (the paper's validation experiment); or "soap", which steps as AdamW in the eigenbasis
        of each parameter's curvature (see soap.py) where no side of the parameter is longer than 512, and as AdamW for
        the head and the rest
    learning_rate : float, the peak
    head_learning_rate : float, optional, the peak for the new head; default learning_rate
    weight_decay : float
    schedule : "cosine": half a cosine down to ``min_rate``; "constant"
    min_rate : float, the rate at the end of the cosine
    warmup_epochs : float, of linear warm-up before that
    warmup_rate : float, optional, the rate of the first step; None starts at an even share of the peak, 1 / (steps of
        warm-up + 1). Both rates are of the atoms and of the head alike
    label_smoothing : share of the target that is spread over all classes, in [0, 1) (Szegedy et al., arXiv:1512.00567);
        while training alone
    mixup, cutmix : alpha of the Beta distribution that the share of each image is drawn from, once a batch; 0 is off
        (Zhang et al., arXiv:1710.09412; Yun et al., arXiv:1905.04899; by torchvision). Where both are on, each batch
        takes one of them, either as often. On several processes each mixes its share of a batch.
    clip_norm : float, optional: gradients are scaled down to this Euclidean norm, over all trained parameters together
    ema_decay : float below 1, optional: judged and kept are averages of the weights over the steps with this decay
        (with ``ema_warmup`` at step t at most t / (t + 10), so that short runs are not judged by their start)
    ema_warmup : bool; without it the decay is ``ema_decay`` from the first step on, as in timm's ModelEmaV2
    patience : int, optional: stop after this many epochs without a better accuracy on the validation images, and keep
        the weights of the best epoch; needs a split with validation images
    batch_norm : what becomes of the running statistics.
        "adapted": averaged over the training images once, before the first step, then frozen, so that training and
        judging compute the same function (AdaBN; Li et al., arXiv:1603.04779).
        "frozen": those of pretraining are kept.
        "updated": batch statistics while training, moving averages when judged, which lag behind the weights in runs of
        a few hundred steps.
        "recomputed": as "updated", but averaged anew over all training images after the last epoch, with patience after
        each (Wu and Johnson, arXiv:2105.07576), and over about 512 of them after the others, so that each judgement
        is of the weights as they are; as trained on, but without mixing, dropout and drop path.
    mixed_precision : "no", "bf16", "fp16", or "auto": bf16 on a GPU that has it, else none
    channels_last : images and 4-d weights in memory with the channels last; the same mathematics, about half the time
        of a step on a CPU (benchmarks/training_step.py)
    compile : "no", or a backend of torch.compile: "inductor" (needs a C++ compiler), "aot_eager" or "eager"
    workers : processes that read images; 0 reads them in the training process
    seed : of the order of the images, of dropout and of mixing
    """

    epochs: int = 8
    batch_size: int = 50
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    min_rate: float = 0.0
    warmup_epochs: float = 1.0
    warmup_rate: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    ema_warmup: bool = True
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
        self._check_rates()
        if not 0 <= self.label_smoothing < 1:
            raise FiltersubError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            if not 0 <= alpha < math.inf:
                raise FiltersubError(
                    f"{name} is the alpha of a Beta distribution and must not be negative, got {alpha}"
                )
            if alpha and self.batch_size < 2:
                raise FiltersubError(f"{name} mixes the images of a batch, and a batch_size of 1 has a single one")
        if self.workers < 0:
            raise FiltersubError(f"workers must not be negative, got {self.workers}")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("batch_norm", self.batch_norm, BATCH_NORM)
        _one_of("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))
        _one_of("compile", self.compile, COMPILERS)

    def _check_rates(self) -> None:
        head = self.learning_rate if self.head_learning_rate is None else self.head_learning_rate
        peaks = {"learning_rate": self.learning_rate, "head_learning_rate": head}
        for name in ("min_rate", "warmup_rate"):
            rate = getattr(self, name)
            if rate is None:
                continue
            if not 0 <= rate < math.inf:
                raise FiltersubError(f"{name} must not be negative, got {rate}")
            above = next((peak for peak, value in peaks.items() if rate > value), None)
            if above is not None:
                raise FiltersubError(f"{name} {rate:g} lies above the {above}, which is {peaks[above]:g}; lower it")
        if self.min_rate and self.schedule != "cosine":
            raise FiltersubError(f"min_rate is the end of the cosine schedule; {self.schedule} has no use for it")
        if self.warmup_rate is not None and not self.warmup_epochs:
            raise FiltersubError("warmup_rate is where the warm-up starts, and warmup_epochs is 0; set both or neither")
        if not self.ema_warmup and self.ema_decay is None:
            raise FiltersubError("ema_warmup off is for averages of the weights; set ema_decay, or leave it on")

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
