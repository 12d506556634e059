"""Methods that change features rather than kernels: biases, normalisation layers, a scale and a shift a channel."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..kernels import KernelLayout, layout_of


def train_biases_(model: nn.Module, layers: Iterable[str]) -> None:
    """BitFit: the biases of these layers require a gradient."""
    for name in layers:
        model.get_submodule(name).bias.requires_grad_(True)


def train_whole_(model: nn.Module, layers: Iterable[str]) -> None:
    """Every parameter of these layers requires a gradient."""
    for name in layers:
        model.get_submodule(name).requires_grad_(True)


def scale_and_shift_(model: nn.Module, layers: Iterable[str]) -> None:
    """SSF: ``y -> scale * y + shift`` on the output channels of each layer, from 1 and 0.

    Written as what it is on the layer's own parameters, ``weight -> scale * weight`` and
    ``bias -> scale * bias + shift``: the same function, one operation, and merging is keeping the result. In
    normalisation layers that end in an activation (timm's) it comes before that activation.
    Reference: Lian, Zhou, Feng and Wang, "Scaling and shifting your features", arXiv:2210.08823.
    """
    for name in layers:
        layer = model.get_submodule(name)
        layout = layout_of(name, layer, block=1)
        channels = layer.weight.numel() if layout is None else layout.channels[0]
        scale = nn.Parameter(layer.weight.new_ones(channels))
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(channels), requires_grad=False)
        parametrize.register_parametrization(layer, "weight", Scale(scale, layout))
        parametrize.register_parametrization(layer, "bias", ScaleShift(scale))


class Scale(nn.Module):
    def __init__(self, scale: nn.Parameter, layout: KernelLayout | None) -> None:
        super().__init__()
        self.scale, self.layout = scale, layout

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.scale if self.layout is None else _over_outputs(self.scale, self.layout))


class ScaleShift(nn.Module):
    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros_like(scale))

    def forward(self, bias: Tensor) -> Tensor:
        return bias * self.scale + self.shift


def _over_outputs(values: Tensor, layout: KernelLayout) -> Tensor:
    """(c_out,) in a shape that broadcasts over the weight; transposed ones are stored (c_in, c_out / groups, *k)."""
    ones = (1,) * len(layout.kernel_size)
    if layout.kind == "conv1d_transformers":
        return values
    if not layout.kind.startswith("conv_transpose"):
        return values.view(-1, *((1,) * (len(layout.shape) - 1)))
    by_group = values.view(layout.groups, 1, -1).expand(-1, layout.shape[0] // layout.groups, -1)
    return by_group.reshape(layout.shape[0], -1, *ones)
