"""What adapters add to a weight, and a layer run with the sum, its backward pass written out.

An adapter adds small matrices B against tall sources S, ``delta[o, i] = sum_j S[o, j, i] B[j]``. S holds the frozen
coefficients alpha, laid out (o', m, i') for o' x i' rows of the kernel matrix, or, where the codes are a linear map
alpha = F V of the kernels, the kernels F themselves; then B is ``V dD`` and alpha is never stored. In this layout a
channels-last weight (o, *k, i) is one batched product, sum included, with no copy in between (Chen, Miao and Qiu,
arXiv:2403.00269, equations 2 to 4).

Left to autograd each summand would cost a pass over the weight for its gradient, in the layout that autograd happens
to arrive at; here the weight's gradient is contracted with the frozen source once, where it lies: ``dB = sum_o S[o]
dW[o]^T``. The summed weight, which a convolution needs for the gradient of its input, is kept, or made again in the
backward pass: summed weights are new tensors, one a layer, as large as the model together.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from math import prod
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import linear, unfold
from torch.nn.modules.module import _has_any_global_hook

from ..engine.conv import spatial
from ..engine.conv.depthwise import gradients
from ..engine.conv.packed import Packed
from ..engine.conv.patches import mapped_gradient, mapped_sum, packed_gradient, packed_sum
from ..folded_norms import scale_and_bias
from ..kernels import KernelLayout
from .sum_plan import NARROW, BaseWeight, Summand

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LATE = 4  # output channels over positions of all images from which on a gradient is formed as a product
_SLICE = 2**19  # entries of a weight whose rows, and their product, stay in the processor's caches
_state = local()


def by_input(rows: Tensor, layout: KernelLayout) -> Tensor:
    """A kernel matrix (n_rows, m) as the view (o', m, i')."""
    return rows.unflatten(0, (-1, layout.input_channels)).transpose(1, 2)


def by_row(source: Tensor) -> Tensor:
    """The inverse of by_input: (o', m, i') as (n_rows, m)."""
    return source.transpose(1, 2).flatten(0, 1)


def summed(weight: Tensor, terms: list[Summand]) -> Tensor:
    """``weight + sum of the terms`` in the weight's shape, dtype and memory format, summed in the terms' precision.

    Where every B is zero the result equals the weight bit for bit.
    """
    total = _sum(weight, terms)
    if torch.is_grad_enabled() or only_torch_runs():
        return total
    # strides of sides of length 1 say nothing of where numbers lie, but torch chooses slow convolutions by them
    own, asked = ([s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] for t in (total, weight))
    return total.as_strided(weight.shape, weight.stride()) if own == asked else total


def _sum(weight: Tensor, terms: list[Summand]) -> Tensor:
    if len(terms) == 1 and _lands_in_place(weight, terms[0]):
        source, matrix = _dense(terms[0]), terms[0].matrix
        flat = weight.flatten(2).transpose(1, 2)  # (o, k, i), dense in channels-last memory
        total = torch.baddbmm(flat, matrix.T.expand(flat.shape[0], -1, -1), source)
        return total.transpose(1, 2).unflatten(2, weight.shape[2:])
    if not terms:
        return weight
    total = weight.to(terms[0].matrix.dtype)
    for term in terms:
        total = _plus(total, term)
    return total.to(weight.dtype)


def _lands_in_place(weight: Tensor, term: Summand) -> bool:
    """Whether the batched product gives the weight's own memory format."""
    return (
        term.plan.batched
        and term.matrix.ndim == 2
        and weight.dtype == term.matrix.dtype
        and weight.flatten(2).transpose(1, 2).is_contiguous()
    )


def _plus(total: Tensor, term: Summand) -> Tensor:
    source, matrix = term.source, term.matrix
    if isinstance(source, Packed) and _one_pass(term, term.plan.packed, total, source.values, matrix):
        return packed_sum(total, source.values, source.indices, matrix, *term.plan.block)
    kernels = _one_pass_kernels(term, total, matrix)
    if kernels is not None:
        return mapped_sum(total, kernels, matrix, *term.plan.block)
    if _by_slices(term):
        added = torch.empty_like(total)
        term, lines, onto = _as_lines(term, total, added)
        for part, layout in _slices(term.plan.layout):
            torch.add(lines[part], layout.to_weight(_rows(term, part, layout) @ term.matrix), out=onto[part])
        return added
    return total + _product(term)


def _product(term: Summand) -> Tensor:
    """``S x B`` in the stored shape of the weight."""
    source, plan = _dense(term), term.plan
    if term.matrix.ndim == 3:
        rows = torch.bmm(source.permute(2, 0, 1), term.matrix).transpose(0, 1).flatten(0, 1)
    else:
        rows = by_row(source) @ term.matrix
    return rows.reshape(plan.layout.shape) if plan.plain else plan.layout.to_weight(rows)


def _dense(term: Summand) -> Tensor:
    """S as (o', m, i')."""
    source, plan = term.source, term.plan
    if isinstance(source, Packed):
        return by_input(source.unpacked(), plan.layout)
    if isinstance(source, BaseWeight):
        if plan.plain:
            return source.weight.flatten(2).transpose(1, 2).to(source.dtype)
        return by_input(plan.layout.to_rows(source.weight).to(source.dtype), plan.layout)
    return source


def _by_slices(term: Summand) -> bool:
    """Whether a summand is taken some output channels at a time, which autograd does not follow."""
    matrix = term.matrix
    shaped = term.plan.sliced and matrix.ndim == 2 and not isinstance(term.source, Packed)
    return shaped and matrix.device.type == "cpu" and not torch.is_grad_enabled() and not only_torch_runs()


def _as_lines(term: Summand, *tensors: Tensor) -> tuple:
    """The summand and these tensors as they are over weights (o, i k): where all are contiguous as (o, i, *k)."""
    source, layout = term.source, term.plan.layout
    kernels = isinstance(source, BaseWeight)
    if not all(tensor.is_contiguous() for tensor in ((*tensors, source.weight) if kernels else tensors)):
        return term, *tensors
    source = replace(source, weight=source.weight.flatten(1)) if kernels else source
    matrix = layout.in_stored_order(term.matrix, rows=kernels)
    plan = replace(term.plan, layout=layout.as_lines())
    return Summand(plan, source, matrix), *(tensor.flatten(1) for tensor in tensors)


def _slices(layout: KernelLayout) -> Iterator[tuple[slice, KernelLayout]]:
    """Output channels of a weight (o, i, *k), and the layout of that part of it."""
    outs, *rest = layout.shape
    count = layout.block[0] * max(1, _SLICE // (layout.block[0] * prod(rest)))
    for start in range(0, outs, count):
        yield slice(start, start + count), replace(layout, shape=(min(count, outs - start), *rest))


def _rows(term: Summand, part: slice, layout: KernelLayout) -> Tensor:
    """The rows of S that belong to some output channels."""
    source, outs = term.source, layout.block[0]
    if isinstance(source, BaseWeight):
        return layout.to_rows(source.weight[part]).to(source.dtype)
    return by_row(source[part.start // outs : part.stop // outs])


def late_gradient(layer: nn.Module, gradient: Tensor, x: Tensor, terms: list[Summand]) -> Tensor | None:
    """dW of a convolution in blocks as one product, where its output is so small that this takes less time than torch's
    own gradient; else None."""
    if type(layer) is not nn.Conv2d or layer.groups > 1 or x.ndim != 4 or not all(map(_by_slices, terms)):
        return None
    if gradient.numel() * _LATE > layer.out_channels**2:
        return None
    patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    product = gradient.transpose(0, 1).flatten(1) @ patches.transpose(0, 1).flatten(1).T
    return product.unflatten(1, (-1, *layer.kernel_size))


def matrix_gradient(term: Summand, to_weight: Tensor) -> Tensor:
    """``dB = sum_o S[o] dW[o]^T`` of a summand, for the gradient dW in the weight's stored shape, in B's dtype."""
    source, matrix, plan = term.source, term.matrix, term.plan
    to_weight = to_weight.to(matrix.dtype)
    if _by_slices(term):
        found, (term, lines) = torch.zeros_like(matrix), _as_lines(term, to_weight)
        for part, layout in _slices(term.plan.layout):
            found.addmm_(_rows(term, part, layout).T, layout.to_rows(lines[part]))
        if lines is not to_weight:
            found = plan.layout.in_stored_order(found, rows=isinstance(source, BaseWeight), back=True)
        return found
    if isinstance(source, Packed) and _one_pass(term, plan.packed, to_weight, source.values, matrix):
        return packed_gradient(to_weight, source.values, source.indices, source.n_atoms, *plan.block)
    kernels = _one_pass_kernels(term, to_weight, matrix)
    if kernels is not None:
        return mapped_gradient(to_weight, kernels, *plan.block)
    lines = to_weight.flatten(2) if plan.plain else plan.layout.to_rows(to_weight).unflatten(0, (-1, plan.inputs))
    if matrix.ndim == 3:
        return torch.bmm(_dense(term).permute(2, 1, 0), lines.transpose(0, 1))
    if plan.plain and plan.inputs >= NARROW:
        return torch.bmm(_dense(term), lines).sum(0)
    return by_row(_dense(term)).T @ lines.flatten(0, 1)


def _one_pass(term: Summand, planned: bool, *tensors: Tensor) -> bool:
    """Whether the compiled operators take these tensors: on the CPU, all of one dtype, the first a dense matrix."""
    first = tensors[0]
    return (
        planned
        and term.matrix.ndim == 2
        and first.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == first.dtype for t in tensors)
        and first.flatten(1).is_contiguous()
        and not only_torch_runs()
    )


def _one_pass_kernels(term: Summand, *tensors: Tensor) -> Tensor | None:
    """F as a source that the compiled operators take beside a sum or a gradient; None where they do not."""
    source = term.source
    if not isinstance(source, BaseWeight) or not _one_pass(term, term.plan.mapped, *tensors):
        return None
    weight = source.weight.to(source.dtype)
    return weight if _one_pass(term, term.plan.mapped, weight) else None


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Autocast off, for the device of a tensor: sums of weights are made in their own precision."""
    kind = "cpu" if tensor.is_meta else tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def only_torch_runs() -> bool:
    """Whether torch's own operators alone may run: a graph is traced or exported, a transform of torch.func or
    forward-mode differentiation is active, or ``only_torch`` is. Under torch.compile the compiled operators stay.

    These know one derivative, no batching rule, and are not at hand where an exported file is loaded.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return (
        getattr(_state, "only_torch", False)
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or get_proxy_mode() is not None
    )


@contextmanager
def only_torch() -> Iterator[None]:
    """Torch's own operators alone, which can be differentiated again."""
    before = getattr(_state, "only_torch", False)
    _state.only_torch = True
    try:
        yield
    finally:
        _state.only_torch = before


def left_to_torch(gradient: Tensor) -> bool:
    """Whether a backward pass is differentiated itself (create_graph), or is of many gradients (is_grads_batched)."""
    return torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(gradient)


def by_torch(run: Callable[..., Tensor], given: list[Tensor], needed: Sequence[bool], gradient: Tensor) -> list:
    """Gradients of ``run(*given)`` by torch's own operators, None where none is needed; differentiable again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad(), only_torch():
        given = [tensor.view_as(tensor) for tensor in given]  # without the tensors' hooks, which would run twice
        wanted = [tensor for tensor, need in zip(given, needed, strict=True) if need]
        found = iter(torch.autograd.grad(run(*given), wanted, gradient, create_graph=again))
    return [next(found) if need else None for need in needed]


def can_run(layer: nn.Module, weight: Tensor, terms: list[Summand], norm: nn.Module | None = None) -> bool:
    """Whether run_summed knows this layer: a plain one without hooks, of whose weight only the B are trained.

    Without gradients it is of use for folding in ``norm`` alone.
    """
    trains = torch.is_grad_enabled()
    if torch.compiler.is_compiling() or only_torch_runs() or not (trains or (norm is not None and terms)):
        return False
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    if not _is_plain(layer) or any(hooks) or _has_any_global_hook():
        return False
    sources = [weight, *(term.source for term in terms if isinstance(term.source, Tensor))]
    alone = not any(source.requires_grad for source in sources) and any(term.matrix.requires_grad for term in terms)
    return alone or not trains


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer runs as its class does, with settings as its class makes them: a number for each side."""
    kind, methods, settings = type(layer), ("forward",), ()
    if kind in _CONVOLUTIONS and layer.padding_mode == "zeros":
        methods, settings = ("forward", "_conv_forward"), (layer.stride, layer.padding, layer.dilation)
    elif kind is not nn.Linear:
        return False
    sides = layer.weight.ndim - 2
    return all(type(each) is tuple and len(each) == sides for each in settings) and all(
        getattr(getattr(layer, name), "__func__", None) is getattr(kind, name) for name in methods
    )


def run_summed(
    layer: nn.Module, x: Tensor, weight: Tensor, terms: list[Summand], *, recompute: bool, norm: nn.Module | None
) -> Tensor:
    """``layer(x)`` with the weight ``weight + sum of the terms``; differentiable, also twice, in x, the bias and
    every B.

    recompute : make the summed weight again in the backward pass instead of keeping it
    norm : a batch norm to fold into the layer
    """
    kind, bias, scale = "cpu" if x.is_meta else x.device.type, layer.bias, None
    if norm is not None:
        scale, bias = scale_and_bias(norm, weight, bias)
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        x, bias = x.to(lower), None if bias is None else bias.to(lower)
    return _Summed.apply(layer, terms, recompute, scale, x, weight, bias, *(term.matrix for term in terms))


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: nn.Module, terms: list[Summand], recompute: bool, scale: Tensor | None, *given: Any
    ) -> Tensor:
        x, weight, bias, *matrices = given
        with without_autocast(weight):
            total = _scaled(summed(weight, terms), scale)
        if torch.is_autocast_enabled("cpu" if x.is_meta else x.device.type):
            total = total.to(x.dtype)
        # a copy: settings of the layer may change before the backward pass
        ctx.layer, ctx.total, ctx.scale = copy(layer), None if recompute else total, scale
        ctx.sources = [(term.plan, term.source) for term in terms]
        # through autograd's own keeper, which notices tensors that are overwritten before the backward pass
        ctx.save_for_backward(x, weight, *matrices, *(t for term in terms for t in _tensors(term.source)))
        with without_autocast(x):
            return _output(layer, x, total, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        _, _, _, _, to_x, _, to_bias, *to_matrices = ctx.needs_input_grad
        x, weight, *matrices = ctx.saved_tensors
        matrices, scale = matrices[: len(ctx.sources)], ctx.scale
        terms = [Summand(*source, matrix) for source, matrix in zip(ctx.sources, matrices, strict=True)]

        def run(x: Tensor, bias: Tensor, *matrices: Tensor) -> Tensor:
            given = [replace(term, matrix=matrix) for term, matrix in zip(terms, matrices, strict=True)]
            return _output(ctx.layer, x, _scaled(summed(weight, given), scale).to(x.dtype), bias)

        with without_autocast(weight):
            if left_to_torch(gradient):
                bias = x.new_zeros(len(weight), requires_grad=to_bias)  # whose gradient does not depend on its values
                found = by_torch(run, [x, bias, *matrices], [to_x, to_bias, *to_matrices], gradient)
                return None, None, None, None, found[0], None, *found[1:]
            total = _scaled(summed(weight, terms), scale) if ctx.total is None else ctx.total
            term, total, ctx.total = terms[0], total.to(gradient.dtype), None
            by_codes = term.plan.spatial and isinstance(term.source, BaseWeight) and len(terms) == 1
            if by_codes and to_x and to_matrices[0]:
                found = spatial.gradients(ctx.layer, gradient, x, total, term.matrix, to_bias)
                if found is not None:
                    return None, None, None, None, found[0], None, *found[1:]
            late = late_gradient(ctx.layer, gradient, x, terms) if any(to_matrices) else None
            needs = [to_x, any(to_matrices) and late is None, to_bias]
            for_x, for_weight, for_bias = _backward(ctx.layer, gradient, x, total, needs)
            total, for_weight = None, for_weight if late is None else late
            if any(to_matrices):
                for_weight = _scaled(for_weight, scale)
            needed = zip(terms, to_matrices, strict=True)
            for_matrices = [matrix_gradient(term, for_weight) if need else None for term, need in needed]
        return None, None, None, None, for_x, None, for_bias, *for_matrices


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else weight * scale


def _output(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return linear(x, weight, bias) if type(layer) is nn.Linear else layer._conv_forward(x, weight, bias)


def _tensors(source: Tensor | Packed | BaseWeight) -> list[Tensor]:
    if isinstance(source, Packed):
        return [source.values, source.indices]
    return [source.weight if isinstance(source, BaseWeight) else source]


def _backward(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    """Gradients of input, weight and bias of a convolution or linear layer, those that are needed."""
    if type(layer) is nn.Linear:
        to_x = gradient @ weight if needs[0] else None
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_weight = flat.T @ x.reshape(-1, x.shape[-1]) if needs[1] else None
        return to_x, to_weight, flat.sum(0) if needs[2] else None
    if x.ndim != weight.ndim:  # one image without a batch
        to_x, *rest = _backward(layer, gradient[None], x[None], weight, needs)
        return None if to_x is None else to_x[0], *rest
    sides = [list(each) for each in (layer.stride, layer.padding, layer.dilation)]
    return gradients(gradient, x, weight, *sides, layer.groups, needs, only_torch=only_torch_runs())
