"""``total + S x B`` in one pass over a stored (outs, ins) matrix, and ``dB = S^T dW``, as operators of torch.

S are packed coefficients, or the kernels F themselves (B is then V dD). A pass reads and writes the weight where it
lies: no dense coefficients, no repacked copy. Chunks are cut by size alone and their sums are added in order, so
results do not depend on the number of threads. Under torch.compile each is one opaque operator.

A vector of d = p q lanes holds one row of the kernel matrix. The patch whose first entry is element ``first`` of the
weight has its p lines ``stride`` apart. ``lines`` and ``line`` are tuples of which only the length counts, p and q.
float32 or float64 throughout; nothing checks bounds.
"""

from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from ..compile import compiled, make_ready
from ..threads import over_rows
from ..vectors import (
    I64,
    Vector,
    add_each,
    element_address,
    fused,
    load,
    load_each,
    picked,
    read,
    scalar,
    splat,
    store,
    write,
)
from .packed import Packed

MOST_MAPPED = 16  # entries of a patch whose d sums of d lanes fit the registers
_CHUNK = 16384  # rows of the kernel matrix that a thread takes at a time
_FEW = 32768  # rows below which starting a thread costs more than it saves


@intrinsic
def load_patch(typingctx, array, first, stride, lines, line):
    """The p lines of a patch one after the other, as a vector."""

    def codegen(context, builder, signature, args):
        dtype, q = context.get_data_type(array.dtype), line.count
        first, *others = (read(builder, address, dtype, q) for address in _lines(context, builder, signature, args))
        for part in others:
            n = first.type.count
            if n > q:  # a shuffle takes two of the same length
                part = picked(builder, part, [*range(q), *[0] * (n - q)])
            first = picked(builder, first, range(n + q), part)
        return first

    return Vector(array.dtype, lines.count * line.count)(array, types.int64, types.int64, lines, line), codegen


@intrinsic
def store_patch(typingctx, array, first, stride, lines, line, patch):
    """The inverse of load_patch."""

    def codegen(context, builder, signature, args):
        q = line.count
        for a, address in enumerate(_lines(context, builder, signature, args)):
            write(builder, picked(builder, args[5], range(a * q, a * q + q)), address)
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64, lines, line, patch), codegen


def _lines(context, builder, signature, args):
    """Addresses of the lines of a patch."""
    for a in range(signature.args[3].count):
        index = builder.add(args[1], builder.mul(args[2], I64(a)))
        yield element_address(context, builder, signature, args, 0, index)


@intrinsic
def entries_of(typingctx, array, first, stride, lines, line):
    """Each entry of a patch as a vector of as many lanes, all the same: a tuple."""

    def codegen(context, builder, signature, args):
        dtype, found = context.get_data_type(array.dtype), []
        for address in _lines(context, builder, signature, args):
            for b in range(line.count):
                place = builder.gep(address, [I64(b)], inbounds=True, source_etype=dtype)
                found.append(splat(builder, builder.load(place, typ=dtype), lines.count * line.count))
        return context.make_tuple(builder, signature.return_type, found)

    d = lines.count * line.count
    kind = types.UniTuple(Vector(array.dtype, d), d)
    return kind(array, types.int64, types.int64, lines, line), codegen


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
    width, n_blocks = total.shape[1] // p, total.shape[1] // (p * q)
    for o in range(total.shape[0]):
        for i in range(n_blocks):
            first, start = o * p * width + i * q, (o * n_blocks + i) * count
            patch = load_patch(total, first, width, lines, line)
            for k in range(start, start + count):
                atom = load(matrix, np.int64(scalar(indices, k)) * (p * q), patch)
                patch = fused(scalar(values, k), atom, patch)
            store_patch(out, first, width, lines, line, patch)


@compiled
def _gradient_packed(gradient, values, indices, into, count, lines, line):
    p, q = len(lines), len(line)
    width, n_blocks = gradient.shape[1] // p, gradient.shape[1] // (p * q)
    for o in range(gradient.shape[0]):
        for i in range(n_blocks):
            start = (o * n_blocks + i) * count
            patch = load_patch(gradient, o * p * width + i * q, width, lines, line)
            for k in range(start, start + count):
                place = np.int64(scalar(indices, k)) * (p * q)
                store(into, place, fused(scalar(values, k), patch, load(into, place, patch)))


@compiled
def _sum_mapped(total, source, out, matrix, lines, line):
    p, q = len(lines), len(line)
    width = total.shape[1] // p
    for o in range(total.shape[0]):
        for first in range(o * p * width, (o * p + 1) * width, q):
            patch = load_patch(total, first, width, lines, line)
            for a in range(p):
                for b in range(q):
                    row = load(matrix, (a * q + b) * (p * q), patch)
                    patch = fused(scalar(source, first + a * width + b), row, patch)
            store_patch(out, first, width, lines, line, patch)


@compiled
def _gradient_mapped(source, gradient, into, lines, line):
    p, q = len(lines), len(line)
    width, d = source.shape[1] // p, p * q
    for o in range(source.shape[0]):
        patch = load_patch(gradient, o * p * width, width, lines, line)
        sums = load_each(into, 0, d, patch, patch)
        for first in range(o * p * width, (o * p + 1) * width, q):
            patch = load_patch(gradient, first, width, lines, line)
            sums = add_each(patch, entries_of(source, first, width, lines, line), sums)
        for k in range(d):
            store(into, k * d, sums[k])


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
