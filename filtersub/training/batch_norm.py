"""What becomes of batch norm's running statistics while a model is trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NORMS = (nn.modules.batchnorm._BatchNorm,)


def set_training_mode_(model: nn.Module, batch_norm: str) -> None:
    """Training mode, with batch norm in evaluation mode where its statistics stand still."""
    model.train()
    if batch_norm in ("adapted", "frozen"):
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.eval()


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running statistics as plain averages over these batches of images, the weights as they are now."""
    norms = [module for module in model.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # torch's word for a plain average
    model.train()
    for images in batches:
        model(images)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
