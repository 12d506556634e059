"""The training loop, on accelerate: any device, any number of processes, mixed precision, exact resume.

Returns a history, draws nothing, knows nothing of methods: it trains whatever parameters require a gradient.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    activations=("needed_activations",),
    batch_norm=("recompute_batch_norm_", "set_training_mode_"),
    checkpoint=("CHECKPOINT_FILE", "check_checkpoint"),
    classification=("TrainingResult", "fit"),
    config=("BATCH_NORM", "TrainingConfig"),
    evaluation=("class_accuracies", "evaluate"),
    norm_folding=("foldable_norms",),
)
