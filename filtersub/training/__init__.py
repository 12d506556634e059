"""The training loop, on accelerate: any device, any number of processes, mixed precision, exact resume.

Returns a history, draws nothing, knows nothing of methods: it trains whatever parameters require a gradient.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "BATCH_NORM": "config",
    "CHECKPOINT_FILE": "checkpoint",
    "TrainingConfig": "config",
    "TrainingResult": "classification",
    "check_checkpoint": "checkpoint",
    "class_accuracies": "classification",
    "evaluate": "classification",
    "fit": "classification",
    "recompute_batch_norm_": "batch_norm",
    "set_training_mode_": "batch_norm",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
