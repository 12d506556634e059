"""The training loop, on accelerate: any device, any number of processes, mixed precision, exact resume.

Returns a history, draws nothing, knows nothing of methods: it trains whatever parameters require a gradient.
"""

from .batch_norm import recompute_batch_norm_, set_training_mode_
from .checkpoint import CHECKPOINT_FILE, check_checkpoint
from .config import BATCH_NORM, TrainingConfig
from .evaluation import class_accuracies, evaluate
from .loop import TrainingResult, fit

__all__ = [
    "BATCH_NORM",
    "CHECKPOINT_FILE",
    "TrainingConfig",
    "TrainingResult",
    "check_checkpoint",
    "class_accuracies",
    "evaluate",
    "fit",
    "recompute_batch_norm_",
    "set_training_mode_",
]
