"""Methods that change features rather than kernels: biases, normalisation layers, a scale and a shift a channel."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..kernels import KernelLayout, layout_of
from .parametrizations import parametrize_
from .probe import follows_weight

_NAME = "scale_and_shift"  # of what acts on the output, in the layer whose output it is


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
    normalisation layers that end in an activation (timm's) it comes before that activation. Convolutions that divide
    the weight's scale out again (timm's StdConv2d) have their output scaled instead, which cannot be merged.
    Reference: Lian, Zhou, Feng and Wang, "Scaling and shifting your features", arXiv:2210.08823.
    """
    for name in layers:
        layer = model.get_submodule(name)
        layout = layout_of(name, layer, block=1)
        channels = layer.weight.numel() if layout is None else layout.channels[0]
        if layout is not None and not follows_weight(layer):
            ones = (1,) * len(layout.kernel_size)  # channels lie before the sides, last where there are none
            layer.add_module(_NAME, _OutputScaleShift(layer.weight.new_ones(channels, *ones)))
            layer.register_forward_hook(_scaled_and_shifted)
            continue
        scale = nn.Parameter(layer.weight.new_ones(channels))
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(channels), requires_grad=False)
        parametrize_(layer, "weight", Scale(scale, layout))
        parametrize_(layer, "bias", ScaleShift(scale))


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


class _OutputScaleShift(nn.Module):
    def __init__(self, ones: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(ones), nn.Parameter(torch.zeros_like(ones))

    def forward(self, output: Tensor) -> Tensor:
        return output * self.scale + self.shift


def _scaled_and_shifted(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.get_submodule(_NAME)(output).to(output.dtype)


def _over_outputs(values: Tensor, layout: KernelLayout) -> Tensor:
    """(c_out,) in a shape that broadcasts over the weight; transposed ones are stored (c_in, c_out / groups, *k)."""
    ones = (1,) * len(layout.kernel_size)
    if layout.kind == "conv1d_transformers":
        return values
    if not layout.kind.startswith("conv_transpose"):
        return values.view(-1, *((1,) * (len(layout.shape) - 1)))
    by_group = values.view(layout.groups, 1, -1).expand(-1, layout.shape[0] // layout.groups, -1)
    return by_group.reshape(layout.shape[0], -1, *ones)
