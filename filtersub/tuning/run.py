"""A base layer run with its summed weight, its backward pass written out.

Left to autograd each summand would cost a pass over the weight for its gradient, in the layout that autograd happens
to arrive at; here the weight's gradient is contracted with the frozen source once, where it lies. The summed weight,
which a convolution needs for the gradient of its input, is kept, or made again in the backward pass: summed weights
are new tensors, one a layer, as large as the model together, and making one again costs a pass over it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..engine.conv import depthwise, products
from ..engine.conv.packed import Packed
from ..engine.conv.tracing import only_torch, only_torch_runs
from .update import BaseWeight, Summand, matrix_gradient, summed, without_autocast

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def can_run(layer: nn.Module, weight: Tensor, terms: list[Summand]) -> bool:
    """Whether run_summed knows this layer: a plain one without hooks, of whose weight only the B are trained."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or only_torch_runs():
        return False
    plain = type(layer) is nn.Linear or (
        type(layer) in _CONVOLUTIONS and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    trained = (term.source for term in terms if isinstance(term.source, Tensor))
    return (
        plain
        and not any(hooks)
        and not weight.requires_grad
        and not any(source.requires_grad for source in trained)
        and any(term.matrix.requires_grad for term in terms)
    )


def run_summed(layer: nn.Module, x: Tensor, weight: Tensor, terms: list[Summand], *, recompute: bool = False) -> Tensor:
    """``layer(x)`` with the weight ``weight + sum of the terms``; differentiable, also twice, in x, the bias and
    every B.

    recompute : make the summed weight again in the backward pass instead of keeping it
    """
    kind, bias = "cpu" if x.is_meta else x.device.type, layer.bias
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        x, bias = x.to(lower), None if bias is None else bias.to(lower)
    return _Summed.apply(layer, terms, recompute, x, weight, bias, *(term.matrix for term in terms))


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: nn.Module,
        terms: list[Summand],
        recompute: bool,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *matrices: Tensor,
    ) -> Tensor:
        with without_autocast(weight):
            total = summed(weight, terms)
        if torch.is_autocast_enabled("cpu" if x.is_meta else x.device.type):
            total = total.to(x.dtype)
        ctx.layer, ctx.layouts, ctx.has_bias = layer, [term.layout for term in terms], bias is not None
        forms = [_taken_apart(term) for term in terms]
        ctx.forms = [(len(tensors), build) for tensors, build in forms]
        ctx.total = None if recompute else total
        # through autograd's own keeper, which notices tensors that are overwritten before the backward pass
        ctx.save_for_backward(x, weight, *matrices, *(t for tensors, _ in forms for t in tensors))
        with without_autocast(x):
            return linear(x, total, bias) if type(layer) is nn.Linear else layer._conv_forward(x, total, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        again = torch.is_grad_enabled()  # create_graph: these gradients are differentiated themselves
        _, _, _, to_x, _, to_bias, *to_matrices = ctx.needs_input_grad
        x, weight, *rest = ctx.saved_tensors
        terms = _put_together(ctx.layouts, ctx.forms, rest)
        with only_torch() if again else nullcontext(), without_autocast(weight):
            total = summed(weight, terms) if again or ctx.total is None else ctx.total
            needs = [to_x, any(to_matrices), ctx.has_bias and to_bias]
            for_x, for_weight, for_bias = _backward(ctx.layer, gradient, x, total.to(gradient.dtype), needs)
            ctx.total = total = None
            for_matrices = [
                matrix_gradient(term, for_weight) if need else None
                for term, need in zip(terms, to_matrices, strict=True)
            ]
        return None, None, None, for_x, None, for_bias, *for_matrices


def _taken_apart(term: Summand) -> tuple[list[Tensor], Any]:
    """The tensors of a source, and what makes the source of them again."""
    source = term.source
    if isinstance(source, Packed):
        return [source.values, source.indices], lambda values, indices: Packed(values, indices, source.n_atoms)
    if isinstance(source, BaseWeight):
        dtype = source.dtype
        return [source.weight], lambda weight: BaseWeight(weight, dtype)
    return [source], lambda same: same


def _put_together(layouts: list, forms: list[tuple[int, Any]], tensors: list[Tensor]) -> list[Summand]:
    """Terms of every B and then the tensors of every source."""
    matrices, tensors = tensors[: len(forms)], tensors[len(forms) :]
    terms = []
    for layout, (count, build), each in zip(layouts, forms, matrices, strict=True):
        terms.append(Summand(layout, build(*tensors[:count]), each))
        tensors = tensors[count:]
    return terms


def _backward(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    """Gradients of input, weight and bias of a convolution or linear layer, those that are needed, by the way
    that takes least time."""
    if type(layer) is nn.Linear:
        to_x = gradient @ weight if needs[0] else None
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_weight = flat.T @ x.reshape(-1, x.shape[-1]) if needs[1] else None
        return to_x, to_weight, flat.sum(0) if needs[2] else None
    if x.ndim != weight.ndim:  # one image without a batch
        to_x, *rest = _backward(layer, gradient[None], x[None], weight, needs)
        return None if to_x is None else to_x[0], *rest
    if not only_torch_runs() and products.is_faster(layer, gradient, x, weight):
        return products.gradients(layer, gradient, x, weight, needs)
    if needs[1] and not only_torch_runs() and depthwise.takes(layer, gradient, x):
        to_x, _, to_bias = _by_torch(layer, gradient, x, weight, [needs[0], False, needs[2]])
        return to_x, depthwise.weight_gradient(layer, gradient, x), to_bias
    return _by_torch(layer, gradient, x, weight, needs)


def _by_torch(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    n = len(layer.stride)
    sizes = None if layer.bias is None else list(layer.bias.shape)
    settings = (list(layer.stride), list(layer.padding), list(layer.dilation), False, [0] * n, layer.groups)
    return torch.ops.aten.convolution_backward(gradient, x, weight, sizes, *settings, needs)
