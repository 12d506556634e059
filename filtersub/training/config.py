"""How steps are taken, and how a classifier is trained, as checked objects."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch

from ..errors import FiltersubError
from ..settings import MOST, MOST_SEED, check_number, check_types, check_whole

BATCH_NORM = ("adapted", "frozen", "updated", "recomputed")
#: of the settings that are one of a few words
WORDS = {
    "optimizer": ("adamw", "adam", "soap"),
    "schedule": ("cosine", "constant"),
    "mixed_precision": ("auto", "no", "bf16", "fp16"),
    "batch_norm": BATCH_NORM,
    "compile": ("no", "inductor", "aot_eager", "eager"),
}
_MOST_WORKERS = 1_024


@dataclass(frozen=True)
class OptimizationConfig:
    """How steps are taken, whatever is trained for: what TrainingConfig and DenoisingConfig have in common.

    Attributes
    ----------
    batch_size : int; a batch is one step's images, over all processes and all its parts
    accumulation : parts that a batch is computed in, one after the other, before the step: less memory, the same
        gradient (up to batch norm's statistics, which are those of a part)
    optimizer : "adamw"; "adam" (the paper's validation experiment); or "soap", which steps as AdamW in the eigenbasis
        of each parameter's curvature (see soap.py) where no side of the parameter is longer than 512, and as AdamW for
        the head and the rest
    learning_rate : float, the peak
    weight_decay : float
    schedule : after the warm-up, "cosine": half a cosine down to ``min_rate``; or "constant"
    min_rate : float, the rate at the end of the cosine
    warmup_rate : float, optional, the rate of the first step; None starts at an even share of the peak, 1 / (steps of
        warm-up + 1). Both rates are of the atoms and of the head alike
    clip_norm : float, optional: gradients are scaled down to this Euclidean norm, over all trained parameters together
    ema_decay : float below 1, optional: judged and kept are averages of the weights over the steps with this decay
        (with ``ema_warmup`` at step t at most t / (t + EMA_LAG), so that short runs are not judged by their start)
    ema_warmup : bool; without it the decay is ``ema_decay`` from the first step on, as in timm's ModelEmaV2
    mixed_precision : "no", "bf16", "fp16", or "auto": bf16 on a GPU that has it, else none
    seed : of everything that is drawn
    """

    EMA_LAG: ClassVar[int] = 10  # TensorFlow's
    WARMUP: ClassVar[str] = ""  # the field of the warm-up's length

    batch_size: int = 50
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    min_rate: float = 0.0
    warmup_rate: float | None = None
    clip_norm: float | None = None
    ema_decay: float | None = None
    ema_warmup: bool = True
    mixed_precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "accumulation"):
            check_whole(name, getattr(self, name), 1, MOST)
        check_whole("seed", self.seed, 0, MOST_SEED)
        self._check_positive("learning_rate", "clip_norm")
        if self.accumulation > self.batch_size:
            raise FiltersubError(f"accumulation {self.accumulation} is more parts than a batch has images")
        check_number("weight_decay", self.weight_decay, 0)
        check_number(self.WARMUP, getattr(self, self.WARMUP), 0)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FiltersubError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if not self.ema_warmup and self.ema_decay is None:
            raise FiltersubError("ema_warmup off is for averages of the weights; set ema_decay, or leave it on")
        self._check_rates()
        for name, known in WORDS.items():
            value = getattr(self, name, known[0])
            if value not in known:
                raise FiltersubError(f"unknown {name} {value!r}; known: {', '.join(known)}")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise FiltersubError(f"{name} must be a positive number, got {value}")

    def _check_rates(self) -> None:
        peaks = {"learning_rate": self.learning_rate, "head_learning_rate": self.head_rate}
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
        if self.warmup_rate is not None and not getattr(self, self.WARMUP):
            raise FiltersubError(
                f"warmup_rate is where the warm-up starts, and {self.WARMUP} is 0; set both or neither"
            )

    @property
    def head_rate(self) -> float:
        """The peak rate of a new head."""
        return self.learning_rate

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that make a run what it is: a checkpoint of others is refused."""
        return asdict(self)

    @property
    def precision(self) -> str:
        """The mixed precision that this machine gives. Raises FiltersubError where it cannot."""
        on_gpu = torch.cuda.is_available()
        if self.mixed_precision == "fp16" and not on_gpu:
            raise FiltersubError("mixed_precision fp16 needs a GPU and there is none; use bf16 or no")
        if self.mixed_precision != "auto":
            return self.mixed_precision
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"


@dataclass(frozen=True)
class TrainingConfig(OptimizationConfig):
    """How a classifier is trained, beside OptimizationConfig; recorded whole with every run.

    Attributes
    ----------
    epochs : int; the last, smaller batch of an epoch is dropped where more than one batch remains
    head_learning_rate : float, optional, the peak for the new head; default learning_rate
    warmup_epochs : float, of linear warm-up
    label_smoothing : share of the target that is spread over all classes, in [0, 1) (Szegedy et al., arXiv:1512.00567);
        while training alone
    mixup, cutmix : alpha of the Beta distribution that the share of each image is drawn from, once a batch; 0 is off
        (Zhang et al., arXiv:1710.09412; Yun et al., arXiv:1905.04899; by torchvision). Where both are on, each batch
        takes one of them, either as often. On several processes each mixes its share of a batch.
    evaluation_interval : int; the judged images are classified after every such many epochs, and after the last one.
        Where they are many and the training images few, evaluations take most of a run. It changes no weight.
    patience : int, optional: stop after this many epochs without a better accuracy on the validation images, and keep
        the weights of the best epoch; needs a split with validation images, and an evaluation after each epoch
    batch_norm : what becomes of the running statistics.
        "adapted": averaged over the training images once, before the first step, then frozen, so that training and
        judging compute the same function (AdaBN; Li et al., arXiv:1603.04779).
        "frozen": those of pretraining are kept.
        "updated": batch statistics while training, moving averages when judged, which lag behind the weights in runs of
        a few hundred steps.
        "recomputed": as "updated", but averaged anew over all training images after the last epoch, with patience after
        each (Wu and Johnson, arXiv:2105.07576), and over about 512 of them after the others, so that each judgement
        is of the weights as they are; as trained on, but without mixing, dropout and drop path.
    channels_last : images and 4-d weights in memory with the channels last; the same mathematics, about half the time
        of a step on a CPU (benchmarks/training_step.py)
    compile : "no", or a backend of torch.compile: "inductor" (needs a C++ compiler), "aot_eager" or "eager"
    workers : processes that read images; 0 reads them in the training process
    """

    WARMUP: ClassVar[str] = "warmup_epochs"

    epochs: int = 8
    head_learning_rate: float | None = None
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    evaluation_interval: int = 1
    patience: int | None = None
    batch_norm: str = "recomputed"
    channels_last: bool = True
    compile: str = "no"
    workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("head_learning_rate")
        for name in ("epochs", "evaluation_interval"):
            check_whole(name, getattr(self, name), 1, MOST)
        if self.patience is not None:
            check_whole("patience", self.patience, 1)
            if self.evaluation_interval > 1:
                found = f"evaluation_interval is {self.evaluation_interval}"
                raise FiltersubError(f"patience looks at every epoch, and {found}; leave one of them out")
        check_whole("workers", self.workers, 0, _MOST_WORKERS)
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

    @property
    def head_rate(self) -> float:
        return self.learning_rate if self.head_learning_rate is None else self.head_learning_rate

    @property
    def identity(self) -> dict[str, Any]:
        return asdict(replace(self, workers=0))  # who reads the images changes nothing
