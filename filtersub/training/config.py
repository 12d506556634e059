"""How steps are taken, and how a classifier is trained, as checked objects."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from ..errors import FiltersubError, check_name
from ..setting_fields import BATCH_NORM as BATCH_NORM
from ..setting_fields import ClassificationFields, OptimizationFields, described, setting, words_of
from ..settings import (
    MOST,
    MOST_SEED,
    MOST_WORKERS,
    check_number,
    check_positive,
    check_share,
    check_types,
    check_whole,
)


@described
@dataclass(frozen=True)
class OptimizationConfig(OptimizationFields):
    """How steps are taken, whatever is trained for: what TrainingConfig and DenoisingConfig have in common.

    A batch is one step's images, over all processes and all its parts; its parts give the gradient of the whole (up to
    batch norm's statistics, which are those of a part). "adam" is the paper's validation experiment; "soap" steps as
    AdamW in the eigenbasis of each parameter's curvature where no side of the parameter is longer than 512, and as
    AdamW for the head and the rest. The schedule "cosine" is half a cosine down to ``min_rate``;
    ``warmup_rate`` None is 1 / (steps of warm-up + 1) of the peak; both rates are of the atoms and of the head alike.
    ``clip_norm`` is the Euclidean norm over all trained parameters together. With ``ema_warmup`` the decay at step t is
    at most t / (t + EMA_LAG), so that short runs are not judged by their start; without it, it is ``ema_decay`` from
    the first step on, as in timm's ModelEmaV2. ``mixed_precision`` "auto" is bf16 on a GPU that has it, else none.
    """

    EMA_LAG: ClassVar[int] = 10  # TensorFlow's
    WARMUP: ClassVar[str] = ""  # the field of the warm-up's length

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "accumulation"):
            check_whole(name, getattr(self, name), 1, MOST)
        check_whole("seed", self.seed, 0, MOST_SEED)
        for name in ("learning_rate", "clip_norm"):
            check_positive(name, getattr(self, name))
        if self.accumulation > self.batch_size:
            raise FiltersubError(f"accumulation {self.accumulation} is more parts than a batch has images")
        check_number("weight_decay", self.weight_decay, 0)
        check_number(self.WARMUP, getattr(self, self.WARMUP), 0)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FiltersubError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if not self.ema_warmup and self.ema_decay is None:
            raise FiltersubError("ema_warmup off is for averages of the weights; set ema_decay, or leave it on")
        self._check_rates()
        for name, known in words_of(type(self)).items():
            check_name(name, getattr(self, name), known)

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
        import torch  # here: who reads or checks settings needs none

        on_gpu = torch.cuda.is_available()
        if self.mixed_precision == "fp16" and not on_gpu:
            raise FiltersubError("mixed_precision fp16 needs a GPU and there is none; use bf16 or no")
        if self.mixed_precision != "auto":
            return self.mixed_precision
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"


@described
@dataclass(frozen=True)
class TrainingConfig(ClassificationFields, OptimizationConfig):
    """How a classifier is trained, beside OptimizationConfig; recorded whole with every run.

    The last, smaller batch of an epoch is dropped where more than one batch remains. ``label_smoothing`` (Szegedy et
    al., arXiv:1512.00567) is of training alone. ``mixup`` and ``cutmix`` draw the share of each image once a batch
    (Zhang et al., arXiv:1710.09412; Yun et al., arXiv:1905.04899; by torchvision); where both are on, each batch takes
    one of them, either as often, and on several processes each mixes its share of a batch. ``evaluation_interval``
    changes no weight: where the judged images are many and the training images few, evaluations take most of a run.
    ``patience`` keeps the weights of the best epoch; it needs a split with validation images, and an evaluation after
    each epoch. ``batch_norm`` says what becomes of the running statistics:

    - "adapted": averaged over the training images once, before the first step, then frozen, so that training and
      judging compute the same function (AdaBN; Li et al., arXiv:1603.04779)
    - "frozen": those of pretraining are kept
    - "updated": batch statistics while training, moving averages when judged, which lag behind the weights in runs of a
      few hundred steps
    - "recomputed": as "updated", but averaged anew over all training images after the last epoch, with patience after
      each (Wu and Johnson, arXiv:2105.07576), and over about 512 of them after the others, so that each judgement is of
      the weights as they are; as trained on, but without mixing, dropout and drop path
    """

    WARMUP: ClassVar[str] = "warmup_epochs"

    channels_last: bool = setting(
        True,
        "Images and 4-d weights in memory with the channels last: the same mathematics, about half the time of a "
        "step on a CPU (benchmarks/training_step.py); not of networks where torch aborts then, on a CPU",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("head_learning_rate", self.head_learning_rate)
        for name in ("epochs", "evaluation_interval"):
            check_whole(name, getattr(self, name), 1, MOST)
        if self.patience is not None:
            check_whole("patience", self.patience, 1)
            if self.evaluation_interval > 1:
                found = f"evaluation_interval is {self.evaluation_interval}"
                raise FiltersubError(f"patience looks at every epoch, and {found}; leave one of them out")
        check_whole("workers", self.workers, 0, MOST_WORKERS)
        check_share("label_smoothing", self.label_smoothing)
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


def check_allocation(config: OptimizationConfig) -> None:
    """Raises FiltersubError for settings that AdaLoRA cannot be trained with."""
    for name in ("ema_decay", "patience"):
        if getattr(config, name, None) is not None:
            raise FiltersubError(
                f"{name} keeps weights of steps whose ranks were others, but AdaLoRA takes ranks for good; leave it out"
            )
    if config.mixed_precision == "fp16":
        raise FiltersubError("AdaLoRA reads gradients, which fp16 training scales; set mixed_precision to bf16 or no")
