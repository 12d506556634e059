"""Depthwise convolutions that train: full tuning's, and those whose weight a method computes.

Their weight gradient is the engine's where torch takes longer for it than for all the rest of the layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..engine.conv import depthwise


def convolve(
    torchs: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None, lists: list[list[int]]
) -> Tensor | None:
    """A convolution of images with a channel a group; None where torch's own weight gradient is as quick.

    lists : stride, padding and dilation, a number for each side

    Leaves layers that torch.compile traces to torch: the kernel would break the graph.
    """
    trained = weight.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    known = len(weight) == input.shape[1] and weight.dtype == input.dtype and all(map(_of_two_sides, lists))
    if not trained or not known or not depthwise.takes(input, input, weight.shape[2:]):
        return None
    return _Depthwise.apply(input, weight, bias, torchs, lists)


def _of_two_sides(numbers: list[Any]) -> bool:
    """Whether these are two numbers, no tensors, which torch takes too."""
    return len(numbers) == 2 and not any(isinstance(each, Tensor) for each in numbers)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, torchs: Any, lists: list[list[int]]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.lists = lists
        return torchs(input, weight, bias, *lists, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        found = depthwise.gradients(gradient, input, weight, *ctx.lists, len(weight), ctx.needs_input_grad[:3])
        return *found, None, None
