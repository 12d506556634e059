"""Methods that add tensors to features rather than kernels: a scale and a shift a channel, and Conv-Adapter, a small
trained branch beside each spatial convolution.
"""

import copy
from collections.abc import Iterable

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from ..computed_weights import parametrize_
from ..kernels import KernelLayout, layout_of
from ..parameters.baselines import conv_adapter_width
from .probe import follows_weight

_SCALED = "scale_and_shift"  # of what acts on the output, in the layer whose output it is
_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BRANCH = "conv_adapter"  # of the branch, in the convolution that it stands beside


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
            layer.add_module(_SCALED, ScaleShift(nn.Parameter(layer.weight.new_ones(channels, *ones))))
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

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale + self.shift


def _scaled_and_shifted(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.get_submodule(_SCALED)(output).to(output.dtype)


def _over_outputs(values: Tensor, layout: KernelLayout) -> Tensor:
    """(c_out,) in a shape that broadcasts over the weight; transposed ones are stored (c_in, c_out / groups, *k)."""
    ones = (1,) * len(layout.kernel_size)
    if layout.kind == "conv1d_transformers":
        return values
    if not layout.kind.startswith("conv_transpose"):
        return values.view(-1, *((1,) * (len(layout.shape) - 1)))
    by_group = values.view(layout.groups, 1, -1).expand(-1, layout.shape[0] // layout.groups, -1)
    return by_group.reshape(layout.shape[0], -1, *ones)


class ConvAdapter(nn.Module):
    """``x -> scale * up(relu(down(x)))``, of the shape of a convolution's output, zero at the start.

    ``down`` has the convolution's own kernel size, stride, padding and dilation, and one output channel for each group
    of ``reduction`` input channels (the largest divisor of their number that is not above it); ``up`` is pointwise.
    Both have biases, and ``scale``, one number an output channel, starts at 1, as in the authors' code; there ``up``
    starts at random, here at zero, so that tuning starts from the network that was pretrained.
    The branch is not linear: nothing of it can be merged into a kernel.
    Reference: Chen, Tao, Zhang et al., "Conv-Adapter", arXiv:2208.07463, the convolution-parallel form.

    Parameters
    ----------
    layer : a convolution in one to three dimensions, transposed ones apart; it is not changed
    reduction : input channels over channels of the branch, positive

    Shapes: (n, c_in, *sides) -> (n, c_out, *sides of the convolution's output).
    """

    def __init__(self, layer: nn.Module, reduction: int) -> None:
        super().__init__()
        width = conv_adapter_width(layer.in_channels, reduction)
        weight = layer.weight
        self.down = _depthwise(layer, width)
        ones = (1,) * len(weight.shape[2:])
        self.up_weight = nn.Parameter(weight.new_zeros(layer.out_channels, width, *ones))
        self.up_bias = nn.Parameter(weight.new_zeros(layer.out_channels))
        self.scale = nn.Parameter(weight.new_ones(layer.out_channels, *ones))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.down(x))
        convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[self.scale.ndim - 2]
        return self.scale * convolve(hidden, self.up_weight, self.up_bias)


def _depthwise(layer: nn.Module, width: int) -> nn.Module:
    """A convolution of the layer's sides to ``width`` channels, each from input channels of its own; new weights.

    Of the layer's class, which may pad in a way of its own; a plain one where that class computes with another weight
    than it holds (standardised ones, weight norm).
    """
    if "weight" in layer._parameters and follows_weight(layer):
        down = copy.deepcopy(layer)
        down._forward_hooks.clear()
        down._forward_pre_hooks.clear()
        down.out_channels = down.groups = width
        shape = (width, layer.in_channels // width, *layer.weight.shape[2:])
        down.weight = nn.Parameter(layer.weight.new_empty(shape))
        down.bias = nn.Parameter(layer.weight.new_empty(width))
        down.reset_parameters()
        return down
    plain = Conv2dSame if getattr(layer, "same_pad", False) else _PLAIN[layer.weight.ndim - 3]
    sides = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    sides |= {} if plain is Conv2dSame else {"padding_mode": layer.padding_mode}
    like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    return plain(layer.in_channels, width, layer.kernel_size, **sides, groups=width, **like)


def add_conv_adapters_(model: nn.Module, layers: Iterable[str], reduction: int) -> None:
    """Put a branch beside each of these convolutions; what a layer gives at the start is what it gave, bit for bit."""
    for name in layers:
        layer = model.get_submodule(name)
        layer.add_module(_BRANCH, ConvAdapter(layer, reduction))
        layer.register_forward_hook(_with_branch)


def _with_branch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + layer.get_submodule(_BRANCH)(inputs[0]).to(output.dtype)  # autocast puts out another than it holds
