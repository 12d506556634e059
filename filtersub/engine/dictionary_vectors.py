"""Vector instructions of the descent of dictionary learning: 64 rows side by side, one atom or coordinate at a time.

Flat arrays of float32 or float64. A block of rows is laid out (d, 64) and its codes (n_atoms, 64), so that every
instruction works on whole vectors; where a block begins in its array is an argument.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .coordinate_descent import BLOCK
from .vectors import (
    F32,
    I64,
    element_address,
    element_type,
    for_range,
    fused,
    load_scalar,
    load_vector,
    splat,
    store_vector,
)

LANES = 16  # partial sums of a product over 64 rows


@intrinsic
def correlate(typingctx, atoms, first, size, rows, corr, place):
    """Write ``sum_k atoms[first + k] * rows[k]``, k < size, to the block of ``corr`` at ``place``."""

    def codegen(context, builder, signature, args):
        def add(k, state):
            weight = load_scalar(context, builder, signature, args, 0, builder.add(args[1], k))
            column = load_vector(context, builder, signature, args, 3, builder.mul(k, I64(BLOCK)), BLOCK)
            return [fused(builder, splat(builder, weight, BLOCK), column, state[0])]

        start = ir.Constant(ir.VectorType(element_type(context, signature, 0), BLOCK), None)
        (total,) = for_range(builder, args[2], [start], add)
        store_vector(context, builder, signature, args, 4, args[5], total)
        return context.get_dummy_value()

    return types.none(atoms, types.int64, types.int64, rows, corr, types.int64), codegen


@intrinsic
def accumulate(typingctx, left, first, others, count, sums, place):
    """Add the products of one vector of ``left`` with ``count`` vectors of ``others`` to their LANES partial sums."""

    def codegen(context, builder, signature, args):
        parts = range(0, BLOCK, LANES)
        own = [load_vector(context, builder, signature, args, 0, builder.add(args[1], I64(p)), LANES) for p in parts]

        def add(k, state):
            start, target = builder.mul(k, I64(BLOCK)), builder.add(args[5], builder.mul(k, I64(LANES)))
            total = load_vector(context, builder, signature, args, 4, target, LANES)
            for part, vector in zip(parts, own, strict=True):
                other = load_vector(context, builder, signature, args, 2, builder.add(start, I64(part)), LANES)
                total = fused(builder, vector, other, total)
            store_vector(context, builder, signature, args, 4, target, total)
            return state

        for_range(builder, args[3], [], add)
        return context.get_dummy_value()

    return types.none(left, types.int64, others, types.int64, sums, types.int64), codegen


@intrinsic
def fold(typingctx, source, first, count, width, block):
    """``block[k, r] = source[first + r, k]``, r < count, k < width: rows side by side."""

    def codegen(context, builder, signature, args):
        def move(r, k):
            from_, to = _place_in_rows(builder, args, r, k), builder.add(builder.mul(k, I64(BLOCK)), r)
            _copy(context, builder, signature, args, (0, from_), (4, to))

        _for_each(builder, args[2], args[3], move)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, types.int64, block), codegen


@intrinsic
def unfold(typingctx, target, first, count, width, block):
    """``target[first + r, k] = block[k, r]``: the inverse of fold."""

    def codegen(context, builder, signature, args):
        def move(r, k):
            from_, to = builder.add(builder.mul(k, I64(BLOCK)), r), _place_in_rows(builder, args, r, k)
            _copy(context, builder, signature, args, (4, from_), (0, to))

        _for_each(builder, args[2], args[3], move)
        return context.get_dummy_value()

    return types.none(target, types.int64, types.int64, types.int64, block), codegen


def _place_in_rows(builder, args, r, k):
    return builder.add(builder.mul(builder.add(args[1], r), args[3]), k)


def _for_each(builder, rows, columns, do):
    def row(r, state):
        def column(k, inner):
            do(r, k)
            return inner

        for_range(builder, columns, [], column)
        return state

    for_range(builder, rows, [], row)


def _copy(context, builder, signature, args, source, target):
    """One number. Atomic, which costs nothing, but keeps LLVM from gathers and scatters, which cost far more."""
    dtype = element_type(context, signature, source[0])
    size = 4 if dtype == F32 else 8
    value = builder.load_atomic(
        element_address(context, builder, signature, args, *source), "monotonic", size, typ=dtype
    )
    builder.store_atomic(value, element_address(context, builder, signature, args, *target), "monotonic", size)
