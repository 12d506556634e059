"""Loss, confusion and accuracy by class over a data set."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: DataLoader, n_classes: int, accelerator: Accelerator | None = None
) -> tuple[float, Tensor]:
    """(mean cross-entropy, confusion counts (n_classes, n_classes)) in evaluation mode; true classes down the rows."""
    device = next(model.parameters()).device if accelerator is None else accelerator.device
    # counted here, not by torchmetrics, whose import costs every short run seconds
    counts = torch.zeros(n_classes * n_classes, dtype=torch.long, device=device)
    model.eval()
    loss_sum, seen = 0.0, 0
    for images, labels in batches:
        logits = model(images).float()
        if accelerator is not None:
            logits, labels = accelerator.gather_for_metrics((logits, labels))
        counts += torch.bincount(labels * n_classes + logits.argmax(1), minlength=n_classes * n_classes)
        loss_sum += float(cross_entropy(logits, labels, reduction="sum"))
        seen += len(labels)
    return loss_sum / max(seen, 1), counts.view(n_classes, n_classes).cpu()


def class_accuracies(confusion: Tensor) -> Tensor:
    """Share of each class's images that are classified as it, (n_classes,) float64; NaN for classes without images.

    >>> class_accuracies(torch.tensor([[3, 1], [0, 0]])).tolist()
    [0.75, nan]
    """
    return confusion.diagonal().double() / confusion.sum(1).double()
