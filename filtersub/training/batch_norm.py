"""What becomes of the running statistics of batch and instance norms while a model is trained."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm

from ..models import is_inside

_INSTANCE = nn.modules.instancenorm._InstanceNorm
_NORMS = (nn.modules.batchnorm._BatchNorm, _INSTANCE)
_STATISTICS = ("running_mean", "running_var")
#: the values of ``batch_norm`` that keep running statistics as they are while a model is trained
STANDING_STILL = ("adapted", "frozen")


def set_training_mode_(model: nn.Module, batch_norm: str) -> None:
    """Training mode, with layers that have running statistics in evaluation mode where these stand still."""
    model.train()
    if batch_norm in STANDING_STILL:
        for module in model.modules():
            # batch and instance norms, and layers of libraries such as timm's EvoNorm
            if isinstance(module, _NORMS) or any(getattr(module, name, None) is not None for name in _STATISTICS):
                module.eval()
    for module in model.modules():
        _hold_spectral_norm(module)


def _hold_spectral_norm(layer: nn.Module) -> None:
    """The vectors of spectral norm stand still where the weight does: training would bring them nearer to its largest
    singular value, and the weight that was trained on would not be that of the network as it is loaded."""
    if parametrize.is_parametrized(layer):
        for parametrizations in layer.parametrizations.values():
            if not any(parameter.requires_grad for parameter in parametrizations.parameters()):
                parametrizations.eval()
    for hook in layer._forward_pre_hooks.values():  # torch's older form
        if isinstance(hook, SpectralNorm) and not getattr(layer, f"{hook.name}_orig").requires_grad:
            layer.training = False


def averaging_norms(model: nn.Module) -> list[nn.Module]:
    """The layers that judge with running statistics."""
    return [module for module in model.modules() if isinstance(module, _NORMS) and module.track_running_stats]


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running statistics anew: mean and variance over all these images, the weights as they are now.

    Each layer's inputs are those of the network as it is judged, without dropout and drop path, but with the batch
    statistics of the layers before it. Every value counts alike, whatever the size of its batch, and the spread between
    batches is part of the variance, which is the unbiased one, as torch's running variance is. Instance norms get the
    averages of each image's own mean and unbiased variance, as torch's running statistics of them are. Nothing is read
    where the model has no such layer.
    """
    norms = averaging_norms(model)
    if not norms:
        return
    pooled = {module: _OfInstances() if isinstance(module, _INSTANCE) else _Pooled() for module in norms}
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
        # the mean of the squared deviations: torch.var_mean, as accurate to rounding, takes five to ten times as long
        # on a CPU, longer than the network itself
        dims = [0, *range(2, values.ndim)]
        centre = values.mean(dims, keepdim=True)
        mean, variance = centre.flatten(), (values - centre).square_().mean(dims)
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


class _OfInstances:
    """Mean and variance of each channel within an image, averaged over the images."""

    def __init__(self) -> None:
        self.count, self.mean, self.variance = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        values = arguments[0].detach()
        values = (values if values.dtype == torch.float64 else values.float()).flatten(2)
        self.count += len(values)
        self.mean, self.variance = self.mean + values.mean(2).sum(0), self.variance + values.var(2).sum(0)

    def put_into(self, module: nn.Module) -> None:
        if self.count:
            module.running_mean.copy_(self.mean / self.count)
            module.running_var.copy_(self.variance / self.count)


def statistics_stand_still(model: nn.Module, head: str | None) -> bool:
    """Whether nothing but the head is trained and it has no batch norm: the inputs of every batch norm then stay."""
    norms = averaging_norms(model)
    return all(is_inside(name, head) for name, p in model.named_parameters() if p.requires_grad) and not any(
        module in norms and is_inside(name, head) for name, module in model.named_modules()
    )


class SameStatistics:
    """Running statistics recomputed over the same images once, and put back at later calls.

    For models whose layers up to the last batch norm do not change. Counters advance as if they were recomputed.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = averaging_norms(model)
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []  # mean, variance, batches counted

    def restore_or(self, recompute: Callable[[], None]) -> None:
        """Put the statistics back; the first time call ``recompute``, which sets them."""
        if not self._found:
            before = [module.num_batches_tracked.clone() for module in self._norms]
            recompute()
            for module, counted in zip(self._norms, before, strict=True):
                batches = module.num_batches_tracked - counted
                self._found.append((module.running_mean.clone(), module.running_var.clone(), batches))
            return
        for module, (mean, variance, batches) in zip(self._norms, self._found, strict=True):
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
            module.num_batches_tracked += batches
