"""Loss, confusion and accuracy by class over a data set."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from ..errors import FiltersubError


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: DataLoader, n_classes: int, accelerator: Accelerator | None = None
) -> tuple[float, Tensor]:
    """(mean cross-entropy, confusion counts (n_classes, n_classes)) in evaluation mode; true classes down the rows.

    Raises FiltersubError for a label that is no class.
    """
    device = next(model.parameters()).device if accelerator is None else accelerator.device
    # counted here, not by torchmetrics, whose import costs every short run seconds
    counts = torch.zeros(n_classes * n_classes, dtype=torch.long, device=device)
    model.eval()
    loss_sum, seen = 0.0, 0
    for images, labels in batches:
        check_classes(labels, n_classes)
        logits = model(images).float()
        if accelerator is not None:
            logits, labels = accelerator.gather_for_metrics((logits, labels))
        counts += torch.bincount(labels * n_classes + logits.argmax(1), minlength=n_classes * n_classes)
        loss_sum += float(cross_entropy(logits, labels, reduction="sum"))
        seen += len(labels)
    return loss_sum / max(seen, 1), counts.view(n_classes, n_classes).cpu()


def check_classes(labels: Tensor, n_classes: int) -> None:
    """Raises FiltersubError unless every label is from 0 to below ``n_classes``."""
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        raise FiltersubError(f"label {int(wrong[0])} of an image is no class: they are 0 to {n_classes - 1}")


def class_accuracies(confusion: Tensor) -> Tensor:
    """Share of each class's images that are classified as it, (n_classes,) float64; NaN for classes without images.

    >>> class_accuracies(torch.tensor([[3, 1], [0, 0]])).tolist()
    [0.75, nan]
    """
    return confusion.diagonal().double() / confusion.sum(1).double()
