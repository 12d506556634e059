"""A base layer run with a summed weight that its backward pass makes again instead of keeping.

A convolution keeps its weight for the gradient of its input. Summed weights are new tensors, one a layer, as large as
the model together; making one again costs a pass over it, little beside the two convolutions of a backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .packed import Packed
from .update import Kernels, Term, summed

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def can_recompute(layer: nn.Module, weight: Tensor, terms: list[Term]) -> bool:
    """Whether run_recomputed knows this layer: a plain one without hooks, of whose weight only the B are trained."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
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
        and any(term.small.requires_grad for term in terms)
    )


def run_recomputed(layer: nn.Module, x: Tensor, weight: Tensor, terms: list[Term]) -> Tensor:
    """``layer(x)`` with the weight ``weight + sum of the terms``; differentiable in x, the bias and every B."""
    return _Recomputed.apply(layer, terms, x, weight, layer.bias, *(term.small for term in terms))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: nn.Module, terms: list[Term], x: Tensor, weight: Tensor, bias: Tensor | None, *small):
        total = _total(weight, terms)
        kind, ctx.given = "cpu" if x.is_meta else x.device.type, (x.dtype, None if bias is None else bias.dtype)
        if torch.is_autocast_enabled(kind):
            lower = torch.get_autocast_dtype(kind)
            x, total, bias = x.to(lower), total.to(lower), None if bias is None else bias.to(lower)
        ctx.layer, ctx.layouts, ctx.has_bias = layer, [term.layout for term in terms], bias is not None
        ctx.forms = [_taken_apart(term) for term in terms]
        # through autograd's own keeper, which notices tensors that are overwritten before the backward pass
        ctx.save_for_backward(x, weight, *small, *(t for tensors, _ in ctx.forms for t in tensors))
        ctx.forms = [(len(tensors), build) for tensors, build in ctx.forms]
        with torch.autocast(kind, enabled=False):
            return linear(x, total, bias) if type(layer) is nn.Linear else layer._conv_forward(x, total, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        x, weight, *rest = ctx.saved_tensors
        n_terms = len(ctx.forms)
        small = [each.detach().requires_grad_(need) for each, need in zip(rest, ctx.needs_input_grad[5:], strict=False)]
        rest, terms = rest[n_terms:], []
        for layout, (count, build), each in zip(ctx.layouts, ctx.forms, small, strict=True):
            terms.append(Term(layout, build(*rest[:count]), each))
            rest = rest[count:]
        with torch.enable_grad():
            total = _total(weight, terms)
        needs = [ctx.needs_input_grad[2], any(ctx.needs_input_grad[5:]), ctx.has_bias and ctx.needs_input_grad[4]]
        to_x, to_weight, to_bias = _backward(ctx.layer, gradient, x, total.detach().to(gradient.dtype), needs)
        wanted = [each for each in small if each.requires_grad]
        found = iter(torch.autograd.grad(total, wanted, to_weight.to(total.dtype)) if wanted else ())
        to_small = [next(found) if each.requires_grad else None for each in small]
        to_x = to_x.to(ctx.given[0]) if to_x is not None else None
        to_bias = to_bias.to(ctx.given[1]) if to_bias is not None else None
        return None, None, to_x, None, to_bias, *to_small


def _total(weight: Tensor, terms: list[Term]) -> Tensor:
    with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
        return summed(weight, terms)


def _taken_apart(term: Term) -> tuple[list[Tensor], Any]:
    """The tensors of a source, and what makes the source of them again."""
    source = term.source
    if isinstance(source, Packed):
        return [source.values, source.indices], lambda values, indices: Packed(values, indices, source.n_atoms)
    if isinstance(source, Kernels):
        dtype = source.dtype
        return [source.weight], lambda weight: Kernels(weight, dtype)
    return [source], lambda same: same


def _backward(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    """Gradients of input, weight and bias of a convolution or linear layer, those that are needed."""
    if type(layer) is nn.Linear:
        to_x = gradient @ weight if needs[0] else None
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_weight = flat.T @ x.reshape(-1, x.shape[-1]) if needs[1] else None
        return to_x, to_weight, flat.sum(0) if needs[2] else None
    batched = x.ndim == weight.ndim
    if not batched:
        x, gradient = x[None], gradient[None]
    n = len(layer.stride)
    sizes = None if layer.bias is None else list(layer.bias.shape)
    settings = (list(layer.stride), list(layer.padding), list(layer.dilation), False, [0] * n, layer.groups)
    to_x, to_weight, to_bias = torch.ops.aten.convolution_backward(gradient, x, weight, sizes, *settings, needs)
    return to_x if batched or to_x is None else to_x[0], to_weight, to_bias
