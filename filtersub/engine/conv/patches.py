"""``total + S x B`` in one pass over a stored (outs, ins) matrix, and ``dB = S^T dW``, as operators of torch.

S are packed coefficients, or the kernels F themselves (B is then V dD). A pass reads and writes the weight where it
lies: no dense coefficients, no repacked copy. Chunks are cut by size alone and their sums are added in order, so
results do not depend on the number of threads. Under torch.compile each is one opaque operator.

The vector instructions come first: d = p q lanes hold one row of the kernel matrix. The patch whose first entry is
element ``first`` of the flat weight has its p lines ``stride`` apart. ``lines`` and ``line`` are tuples of which only
the length counts, p and q. float32 or float64 throughout; nothing checks bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from ..compile import compiled, make_ready
from ..threads import over_rows
from ..vectors import I32, I64, for_range, fused, load_scalar, load_vector, splat, store_vector
from .packed import Packed

MOST_MAPPED = 16  # entries of a patch whose d sums of d lanes fit the registers
_CHUNK = 16384  # rows of the kernel matrix that a thread takes at a time
_FEW = 32768  # rows below which starting a thread costs more than it saves


@intrinsic
def add_packed(typingctx, total, out, first, stride, values, indices, start, count, small, lines, line):
    """Patch of ``out`` = patch of ``total`` + ``sum_k values[start + k] small[indices[start + k]]``, k < count."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[9].count, signature.args[10].count
        initial = _load_patch(context, builder, signature, args, 0, (2, 3), p, q)

        def add(k, state):
            value, place = _packed_entry(context, builder, signature, args, (4, 5, 6), k, p * q)
            atom = load_vector(context, builder, signature, args, 8, place, p * q)
            return [fused(builder, value, atom, state[0])]

        (patch,) = for_range(builder, args[7], [initial], add)
        _store_patch(context, builder, signature, args, 1, (2, 3), patch, p, q)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (total, out, integer, integer, values, indices, integer, integer, small, lines, line)
    return types.none(*kinds), codegen


@intrinsic
def gather_packed(typingctx, gradient, first, stride, values, indices, start, count, into, lines, line):
    """``into[indices[start + k]] += values[start + k] patch`` for the patch of ``gradient``, k < count."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[8].count, signature.args[9].count
        patch = _load_patch(context, builder, signature, args, 0, (1, 2), p, q)

        def add(k, state):
            value, place = _packed_entry(context, builder, signature, args, (3, 4, 5), k, p * q)
            before = load_vector(context, builder, signature, args, 7, place, p * q)
            store_vector(context, builder, signature, args, 7, place, fused(builder, value, patch, before))
            return state

        for_range(builder, args[6], [], add)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (gradient, integer, integer, values, indices, integer, integer, into, lines, line)
    return types.none(*kinds), codegen


@intrinsic
def add_mapped(typingctx, total, source, out, first, stride, small, lines, line):
    """Patch of ``out`` = patch of ``total`` + (patch of ``source`` as a row of d) times ``small`` (d, d)."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[6].count, signature.args[7].count
        patch = _load_patch(context, builder, signature, args, 0, (3, 4), p, q)
        for k in range(p * q):
            entry = _patch_entry(context, builder, signature, args, 1, (3, 4), I64(0), k, q)
            row = load_vector(context, builder, signature, args, 5, I64(k * p * q), p * q)
            patch = fused(builder, splat(builder, entry, p * q), row, patch)
        _store_patch(context, builder, signature, args, 2, (3, 4), patch, p, q)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(total, source, out, integer, integer, small, lines, line), codegen


@intrinsic
def gather_mapped(typingctx, source, gradient, first, stride, count, into, lines, line):
    """``into`` (d, d) += sum over ``count`` patches side by side of ``(patch of source)^T (patch of gradient)``."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[6].count, signature.args[7].count
        d = p * q
        initial = [load_vector(context, builder, signature, args, 5, I64(k * d), d) for k in range(d)]

        def add(i, state):
            shift = builder.mul(i, I64(q))
            patch = _load_patch(context, builder, signature, args, 1, (2, 3), p, q, shift)
            entries = [_patch_entry(context, builder, signature, args, 0, (2, 3), shift, k, q) for k in range(d)]
            return [fused(builder, splat(builder, e, d), patch, s) for e, s in zip(entries, state, strict=True)]

        for k, row in enumerate(for_range(builder, args[4], initial, add)):
            store_vector(context, builder, signature, args, 5, I64(k * d), row)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(source, gradient, integer, integer, integer, into, lines, line), codegen


def _packed_entry(context, builder, signature, args, which, k, d):
    """Entry k of the packed codes: its value in every lane, and where its atom begins."""
    values, indices, start = which
    place = builder.add(args[start], k)
    value = load_scalar(context, builder, signature, args, values, place)
    index = load_scalar(context, builder, signature, args, indices, place)
    return splat(builder, value, d), builder.mul(builder.zext(index, I64), I64(d))


def _patch_entry(context, builder, signature, args, array, place, shift, k, q):
    """Entry k = (a, b) of a patch, a scalar."""
    first, stride = args[place[0]], args[place[1]]
    index = builder.add(first, builder.add(shift, builder.add(builder.mul(stride, I64(k // q)), I64(k % q))))
    return load_scalar(context, builder, signature, args, array, index)


def _load_patch(context, builder, signature, args, array, place, p, q, shift=None):
    """The p lines of a patch one after the other."""
    begin = args[place[0]] if shift is None else builder.add(args[place[0]], shift)
    whole = None
    for a in range(p):
        index = builder.add(begin, builder.mul(args[place[1]], I64(a)))
        part = load_vector(context, builder, signature, args, array, index, q)
        whole = part if whole is None else _joined(builder, whole, part)
    return whole


def _store_patch(context, builder, signature, args, array, place, patch, p, q):
    for a in range(p):
        index = builder.add(args[place[0]], builder.mul(args[place[1]], I64(a)))
        store_vector(context, builder, signature, args, array, index, _picked(builder, patch, range(a * q, a * q + q)))


def _joined(builder, one, other):
    """Two vectors as one."""
    n, m = one.type.count, other.type.count
    if n == m:
        return _picked(builder, one, range(n + m), other)
    widened = _picked(builder, other, [*range(m), *[0] * (n - m)])  # a shuffle takes two of the same length
    return _picked(builder, one, [*range(n), *range(n, n + m)], widened)


def _picked(builder, one, lanes, other=None):
    other = ir.Constant(one.type, ir.Undefined) if other is None else other
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)


@torch.library.custom_op("filtersub::packed_sum", mutates_args=())
def packed_sum(total: Tensor, values: Tensor, indices: Tensor, matrix: Tensor, p: int, q: int) -> Tensor:
    """``total + alpha x matrix``: total (outs, ins[, 1, ...]), codes (n_rows, s), matrix (m, p q)."""
    out, matrix = torch.empty_like(total), _array(matrix.contiguous())
    arrays = [_as_lines(each, len(total) // p) for each in (total, values, indices, out)]
    sides, count = ((0,) * p, (0,) * q), values.shape[1]

    def add(_: int, total: np.ndarray, values: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
        _sum_packed(total, values, indices, out, matrix, count, *sides)

    _run(("sum_packed", total.dtype, indices.dtype, p, q), add, arrays, len(values), 1)
    return out


@torch.library.custom_op("filtersub::packed_gradient", mutates_args=())
def packed_gradient(gradient: Tensor, values: Tensor, indices: Tensor, n_atoms: int, p: int, q: int) -> Tensor:
    """``alpha^T gradient`` (m, p q)."""
    arrays = [_as_lines(each, len(gradient) // p) for each in (gradient, values, indices)]
    sums = np.zeros((_n_chunks(len(arrays[0]), len(values)), n_atoms, p * q), arrays[0].dtype)
    sides, count = ((0,) * p, (0,) * q), values.shape[1]

    def gather(number: int, gradient: np.ndarray, values: np.ndarray, indices: np.ndarray) -> None:
        _gradient_packed(gradient, values, indices, sums[number], count, *sides)

    _run(("gradient_packed", gradient.dtype, indices.dtype, p, q), gather, arrays, len(values), 0)
    return torch.from_numpy(sums.sum(0))


@torch.library.custom_op("filtersub::mapped_sum", mutates_args=())
def mapped_sum(total: Tensor, source: Tensor, matrix: Tensor, p: int, q: int) -> Tensor:
    """``total + F matrix`` for the kernels F = source in blocks; matrix (p q, p q)."""
    out, matrix = torch.empty_like(total), _array(matrix.contiguous())
    arrays = [_as_lines(each, len(total) // p) for each in (total, source, out)]
    sides = ((0,) * p, (0,) * q)

    def add(_: int, total: np.ndarray, source: np.ndarray, out: np.ndarray) -> None:
        _sum_mapped(total, source, out, matrix, *sides)

    _run(("sum_mapped", total.dtype, p, q), add, arrays, total.numel() // (p * q), 1)
    return out


@torch.library.custom_op("filtersub::mapped_gradient", mutates_args=())
def mapped_gradient(gradient: Tensor, source: Tensor, p: int, q: int) -> Tensor:
    """``F^T gradient`` (p q, p q)."""
    n_rows = gradient.numel() // (p * q)
    arrays = [_as_lines(each, len(gradient) // p) for each in (source, gradient)]
    sums = np.zeros((_n_chunks(len(arrays[0]), n_rows), p * q, p * q), arrays[0].dtype)
    sides = ((0,) * p, (0,) * q)

    def gather(number: int, source: np.ndarray, gradient: np.ndarray) -> None:
        _gradient_mapped(source, gradient, sums[number], *sides)

    _run(("gradient_mapped", gradient.dtype, p, q), gather, arrays, n_rows, 0)
    return torch.from_numpy(sums.sum(0))


def _as_lines(tensor: Tensor, n_lines: int) -> np.ndarray:
    return _array(tensor.detach().flatten(1).contiguous().view(n_lines, -1))


def _array(tensor: Tensor) -> np.ndarray:
    """The same memory. ``Tensor.numpy`` would forbid to resize it for ever, which FSDP does to gathered weights."""
    return np.from_dlpack(tensor.detach())


def _chunk_lines(n_lines: int, n_rows: int) -> int:
    """Lines of a chunk: about _CHUNK rows, or all of a small layer."""
    return n_lines if n_rows < _FEW else max(1, n_lines * _CHUNK // n_rows)


def _n_chunks(n_lines: int, n_rows: int) -> int:
    return -(-n_lines // _chunk_lines(n_lines, n_rows))


def _run(key: tuple, kernel: Any, arrays: list[np.ndarray], n_rows: int, n_outputs: int) -> None:
    lines = _chunk_lines(len(arrays[0]), n_rows)
    nothing = [array[:0] for array in arrays]
    make_ready(key, lambda: kernel(0, *nothing))
    over_rows(kernel, lines, arrays, n_outputs, widen=False)


# Of every array a kernel sees one line for each block row o': p lines of the weight, the i' codes of that row.


@compiled
def _sum_packed(total, values, indices, out, matrix, count, lines, line):
    p, q = len(lines), len(line)
    width = total.shape[1] // p
    n_blocks = width // q
    flat, flat_out = total.reshape(-1), out.reshape(-1)
    flat_values, flat_indices, flat_matrix = values.reshape(-1), indices.reshape(-1), matrix.reshape(-1)
    for o in range(total.shape[0]):
        for i in range(n_blocks):
            first, start = o * p * width + i * q, (o * n_blocks + i) * count
            add_packed(flat, flat_out, first, width, flat_values, flat_indices, start, count, flat_matrix, lines, line)


@compiled
def _gradient_packed(gradient, values, indices, into, count, lines, line):
    p, q = len(lines), len(line)
    width = gradient.shape[1] // p
    n_blocks = width // q
    flat, flat_into = gradient.reshape(-1), into.reshape(-1)
    flat_values, flat_indices = values.reshape(-1), indices.reshape(-1)
    for o in range(gradient.shape[0]):
        for i in range(n_blocks):
            first, start = o * p * width + i * q, (o * n_blocks + i) * count
            gather_packed(flat, first, width, flat_values, flat_indices, start, count, flat_into, lines, line)


@compiled
def _sum_mapped(total, source, out, matrix, lines, line):
    p, q = len(lines), len(line)
    width = total.shape[1] // p
    flat, flat_source = total.reshape(-1), source.reshape(-1)
    flat_out, flat_matrix = out.reshape(-1), matrix.reshape(-1)
    for o in range(total.shape[0]):
        for i in range(width // q):
            add_mapped(flat, flat_source, flat_out, o * p * width + i * q, width, flat_matrix, lines, line)


@compiled
def _gradient_mapped(source, gradient, into, lines, line):
    p, q = len(lines), len(line)
    width = source.shape[1] // p
    flat_source, flat, flat_into = source.reshape(-1), gradient.reshape(-1), into.reshape(-1)
    for o in range(source.shape[0]):
        gather_mapped(flat_source, flat, o * p * width, width, width // q, flat_into, lines, line)


@packed_sum.register_fake
@mapped_sum.register_fake
def _(total: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(total)


@packed_gradient.register_fake
def _(gradient: Tensor, values: Tensor, indices: Tensor, n_atoms: int, p: int, q: int) -> Tensor:
    return gradient.new_empty(n_atoms, p * q)


@mapped_gradient.register_fake
def _(gradient: Tensor, source: Tensor, p: int, q: int) -> Tensor:
    return gradient.new_empty(p * q, p * q)


def _keep_packed(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, values, indices, matrix, p, q = inputs
    ctx.save_for_backward(values, indices)
    ctx.sizes = matrix.shape[0], p, q


def _packed_backward(ctx: Any, gradient: Tensor) -> tuple:
    (values, indices), (n_atoms, p, q) = ctx.saved_tensors, ctx.sizes
    matrix = None
    if ctx.needs_input_grad[3] and torch.is_grad_enabled():  # to be differentiated again
        matrix = Packed(values, indices, n_atoms).unpacked().T @ _rows(gradient, p, q)
    elif ctx.needs_input_grad[3]:
        matrix = packed_gradient(gradient, values, indices, n_atoms, p, q)
    return gradient, None, None, matrix, None, None


def _keep_mapped(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, source, matrix, p, q = inputs
    ctx.save_for_backward(source, matrix if ctx.needs_input_grad[1] else None)
    ctx.sides = p, q


def _mapped_backward(ctx: Any, gradient: Tensor) -> tuple:
    (source, matrix), (p, q) = ctx.saved_tensors, ctx.sides
    to_source = None
    if torch.is_grad_enabled():  # to be differentiated again
        rows = _rows(gradient, p, q)
        if ctx.needs_input_grad[1]:
            to_source = _matrix(rows @ matrix.T, gradient, p, q)
        return gradient, to_source, _rows(source, p, q).T @ rows if ctx.needs_input_grad[2] else None, None, None
    if ctx.needs_input_grad[1]:
        to_source = mapped_sum(torch.zeros_like(gradient), gradient, matrix.T, p, q)
    to_small = mapped_gradient(gradient, source, p, q) if ctx.needs_input_grad[2] else None
    return gradient, to_source, to_small, None, None


def _rows(matrix: Tensor, p: int, q: int) -> Tensor:
    """A stored (outs, ins[, 1, ...]) matrix as its rows (n_rows, p q), by torch alone."""
    outs, ins = len(matrix), matrix[0].numel()
    return matrix.reshape(outs // p, p, ins // q, q).transpose(1, 2).reshape(-1, p * q)


def _matrix(rows: Tensor, like: Tensor, p: int, q: int) -> Tensor:
    """The inverse of _rows."""
    return rows.reshape(len(like) // p, -1, p, q).transpose(1, 2).reshape(like.shape)


packed_sum.register_autograd(_packed_backward, setup_context=_keep_packed)
mapped_sum.register_autograd(_mapped_backward, setup_context=_keep_mapped)
