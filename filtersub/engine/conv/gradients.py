"""Gradients of a convolution in a backward pass that is written out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import depthwise


def gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    asked: Sequence[bool],
    *,
    only_torch: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, the weight and the bias of any convolution with zero padding, those that are asked for: torch's,
    but for the weight's where ``depthwise.weight_gradient`` takes less time and not ``only_torch``.

    The bias's is a sum: asked for it without the weight's, torch computes that too, and drops it.
    """
    to_x, wanted, to_bias = asked
    own = None
    if wanted and not only_torch and groups == x.shape[1] == len(weight):
        own = depthwise.weight_gradient(gradient, x, weight.shape[2:], stride, padding, dilation)
    by_torch = wanted and own is None
    for_x, for_weight, for_bias = None, own, None
    if to_x or by_torch:
        settings = (stride, padding, dilation, False, [0] * len(stride), groups)
        sizes, needs = [len(weight)] if to_bias else None, [to_x, by_torch, to_bias and by_torch]
        for_x, torchs, for_bias = torch.ops.aten.convolution_backward(gradient, x, weight, sizes, *settings, needs)
        for_weight = torchs if own is None else own
    if to_bias and not by_torch:
        for_bias = gradient.sum((0, *range(2, gradient.ndim)))
    return for_x, for_weight, for_bias


def left_to_torch(gradient: Tensor) -> bool:
    """Whether a backward pass is differentiated itself (create_graph), or given many gradients at once
    (is_grads_batched)."""
    return torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(gradient)
