"""Layers whose output has few positions, run in the paper's two steps: first atoms over the input, then coefficients.

``(S x B) * x = S x (B * x)`` (Chen, Miao and Qiu, arXiv:2403.00269, equation 3). Summing the weight first costs 2 d
operations for each of its entries, and again for the gradient of B, however small the images are; two steps over blocks
of p x q channels cost 2 p n, for n positions of the output. Neither the summed weight nor its gradient is made.

Here S are the kernels F themselves (linear codes), which the second step reads where they lie: (o, i, *k) is the matrix
(o / p, p i k).
"""

from copy import copy
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, unfold

from ..kernel_layout import KernelLayout
from .sum_plan import BaseWeight, Summand
from .weight_sum import by_torch, left_to_torch, only_torch_runs, without_autocast


def takes_two_steps(layer: nn.Module, x: Tensor, weight: Tensor, terms: list[Summand]) -> bool:
    """Whether a layer that weight_sum.can_run knows takes less time in two steps, for an input of this shape."""
    if type(layer) is not nn.Conv2d or layer.groups > 1 or x.ndim != 4 or len(terms) != 1:
        return False
    ((source, matrix, layout),) = ((term.source, term.matrix, term.plan.layout) for term in terms)
    return (
        isinstance(source, BaseWeight)
        and layout.is_spatial
        and layout.block[0] > 1
        and matrix.ndim == 2
        and 0 < layout.block[0] * x.shape[0] * prod(_out(layer, x)) <= layout.patch_size
        and x.device.type == weight.device.type == "cpu"
        and weight.is_contiguous()
        and x.dtype == weight.dtype == matrix.dtype
        and not torch.is_autocast_enabled("cpu")
        and not only_torch_runs()
    )


def run_two_steps(layer: nn.Module, x: Tensor, weight: Tensor, term: Summand) -> Tensor:
    """``layer(x)`` with the weight ``weight + S x B``; differentiable, also twice, in x, the bias and B."""
    plain = layer._conv_forward(x, weight, layer.bias)  # first, since it names what is wrong with an input
    return plain + _TwoSteps.apply(layer, term.plan.layout, x, weight, term.matrix)


class _TwoSteps(torch.autograd.Function):
    """``F x (B * x)``. A row of B belongs to an output channel a, an input channel b and a position u of a block, its
    columns to a', b' and u'; I counts blocks of input channels."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Conv2d, layout: KernelLayout, x: Tensor, weight: Tensor, matrix: Tensor) -> Tensor:
        ctx.layer, ctx.layout = copy(layer), layout  # a copy: settings of the layer may change before the backward pass
        ctx.save_for_backward(x, weight, matrix)
        return _added(layer, layout, x, weight, matrix)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        (x, weight, matrix), layer, layout = ctx.saved_tensors, ctx.layer, ctx.layout
        _, _, for_x, _, for_matrix = ctx.needs_input_grad
        with without_autocast(weight):
            if left_to_torch(gradient):
                added = partial(_added, layer, layout)
                to_x, _, to_matrix = by_torch(added, [x, weight, matrix], [for_x, False, for_matrix], gradient)
                return None, None, to_x, None, to_matrix
            seen, p = _seen(layer, layout, x), layout.block[0]
            towards = gradient.transpose(0, 1).reshape(len(weight) // p, -1)
            to_responses = (_coefficients(weight, layout).T @ towards).reshape(p, len(seen), -1, seen.shape[2])
            to_x = to_matrix = None
            if for_x:
                pairs = zip(_by_output(matrix, layout), to_responses, strict=True)
                to_x = _put_back(layer, sum(atoms.T @ each for atoms, each in pairs), x)
            if for_matrix:
                to_atoms = [(each @ seen.transpose(1, 2)).sum(0) for each in to_responses]
                to_matrix = _by_row(torch.stack(to_atoms), layout)
        return None, None, to_x, None, to_matrix


def _added(layer: nn.Conv2d, layout: KernelLayout, x: Tensor, weight: Tensor, matrix: Tensor) -> Tensor:
    seen, n = _seen(layer, layout, x), x.shape[0] * prod(_out(layer, x))
    responses = torch.stack([atoms @ seen for atoms in _by_output(matrix, layout)])  # (a, I, b u a', n)
    added = _coefficients(weight, layout) @ responses.reshape(-1, layout.block[0] * n)
    return added.reshape(-1, x.shape[0], *_out(layer, x)).transpose(0, 1)


def _coefficients(weight: Tensor, layout: KernelLayout) -> Tensor:
    """F as (o / p, p i k)."""
    return weight.reshape(len(weight) // layout.block[0], -1)


def _out(layer: nn.Conv2d, x: Tensor) -> list[int]:
    """Height and width of the output."""
    sides = zip(x.shape[2:], layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    return [(size + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for size, k, stride, padding, dilation in sides]


def _seen(layer: nn.Conv2d, layout: KernelLayout, x: Tensor) -> Tensor:
    """What kernels see at each position of the output, (i / q, q prod(k), n)."""
    patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(0, 1)
    return patches.reshape(x.shape[1] // layout.block[1], -1, patches.shape[1] * patches.shape[2])


def _put_back(layer: nn.Conv2d, to_seen: Tensor, x: Tensor) -> Tensor:
    """The gradient of x from that of what kernels see."""
    patches = to_seen.reshape(-1, x.shape[0], to_seen.shape[2] // x.shape[0]).transpose(0, 1)
    return fold(patches, x.shape[2:], layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def _by_output(matrix: Tensor, layout: KernelLayout) -> Tensor:
    """B (d, d) as (a, b u a', b' u')."""
    d, p = layout.patch_size, layout.block[0]
    return layout.in_stored_order(matrix, rows=True).reshape(p, d, d // p)


def _by_row(parts: Tensor, layout: KernelLayout) -> Tensor:
    """The inverse of _by_output."""
    d = layout.patch_size
    return layout.in_stored_order(parts.reshape(d, d), rows=True, back=True)
