"""What becomes of batch norm's running statistics while a model is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


def averaging_norms(model: nn.Module) -> list[nn.Module]:
    """The layers that judge with running statistics."""
    return [module for module in model.modules() if isinstance(module, _NORMS) and module.track_running_stats]


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running statistics anew: mean and variance over all these images, the weights as they are now.

    Each layer's inputs are those of the network as it is judged, without dropout and drop path, but with the batch
    statistics of the layers before it. Every value counts alike, whatever the size of its batch, and the spread between
    batches is part of the variance, which is the unbiased one, as torch's running variance is. Nothing is read where
    the model has no such layer.
    """
    norms = averaging_norms(model)
    if not norms:
        return
    pooled = {module: _Pooled() for module in norms}
    handles = [module.register_forward_pre_hook(pooled[module]) for module in norms]
    try:
        model.eval()
        for module in norms:
            module.train()
        for images in batches:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    for module in norms:
        pooled[module].put_into(module)


class _Pooled:
    """Mean and variance of each channel over all inputs seen, batch after batch (Chan, Golub and LeVeque, 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        values = arguments[0].detach()
        values = values if values.dtype == torch.float64 else values.float()
        dims = [0, *range(2, values.ndim)]
        variance, mean = torch.var_mean(values, dims, correction=0)
        count = values.numel() // values.shape[1]
        if not self.count:
            self.count, self.mean, self.squares = count, mean, variance * count
            return
        total, apart = self.count + count, mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.squares = self.squares + variance * count + apart.square() * (self.count * count / total)
        self.count = total

    def put_into(self, module: nn.Module) -> None:
        if self.count > 1:  # a layer that was not used keeps what it has
            module.running_mean.copy_(self.mean)
            module.running_var.copy_(self.squares / (self.count - 1))
