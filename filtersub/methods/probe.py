"""A layer tried on a copy: small inputs for it, and whether its output follows its weight."""

import copy

import torch
from torch import Tensor, nn

from ..computed_weights import own_class_, parametrize_
from ..kernels import layout_of
from ..random_states import seeded


def copy_on_cpu(layer: nn.Module) -> nn.Module:
    """A float32 copy on the CPU whose behaviour is that of its kind: random numbers stand for tensors without values
    (on the meta device) and for parameters that are zero (gains of timm's NFNets at their start)."""
    copied = copy.deepcopy(layer)
    for module in copied.modules():
        own_class_(module)
    if any(tensor.is_meta for tensor in (*copied.parameters(), *copied.buffers())):
        copied.to_empty(device="cpu")
        for buffer in copied.buffers():
            buffer.fill_(1)
        for parameter in copied.parameters():
            parameter.data.zero_()
    copied.float().cpu()
    for parameter in copied.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter)
    return copied


def example_for(layer: nn.Module, n: int) -> Tensor:
    """``n`` random examples for a convolution or linear layer, each a few positions larger than the kernel."""
    layout = layout_of("layer", layer, block=1)
    if layout is None or not layout.kernel_size:
        width = getattr(layer, "in_features", None) or layer.weight.shape[0]
        return torch.randn(n, width)
    dilation = getattr(layer, "dilation", None) or (1,) * len(layout.kernel_size)
    sides = [(k - 1) * d + 3 for k, d in zip(layout.kernel_size, dilation, strict=True)]
    return torch.randn(n, layer.in_channels, *sides)


def is_near(found: Tensor, wanted: Tensor) -> bool:
    """Float32 sums in another order differ by about 1e-6 of the largest value."""
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max())


@torch.no_grad()
def follows_weight(layer: nn.Module) -> bool:
    """Whether twice the weight and bias give twice the output.

    Standardised convolutions (timm's StdConv2d) divide the weight's scale out again: theirs do not.
    """
    with seeded(0):
        probe = copy_on_cpu(layer)
        example = example_for(layer, 2)
        before = probe(example)
        for name in ("weight", "bias"):
            if getattr(probe, name, None) is not None:
                parametrize_(probe, name, _Twice())
        return is_near(probe(example), 2 * before)


class _Twice(nn.Module):
    def forward(self, tensor: Tensor) -> Tensor:
        return 2 * tensor
