"""The compiled loops of dictionary learning: sweeps over codes with their statistics, and over atoms.

The vector instructions come first: 64 rows side by side, one atom or coordinate at a time. Flat arrays of float32 or
float64. A block of rows is laid out (d, 64) and its codes (n_atoms, 64), so that every instruction works on whole
vectors; where a block begins in its array is an argument.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import compiled
from .coordinate_descent import BLOCK, descend
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
    take,
)

LANES = 16  # partial sums of a product over 64 rows


_FLUSH = 16  # blocks whose products are summed in the dtype of the rows before they go to float64


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


@compiled
def sweep_rows(rows, codes, chunk_rows, counter, atoms, gram, inverse, l1, l1_neg, sweeps, totals):
    """Improve the codes (n, m) of the rows (n, d) by sweeps of coordinate descent, in place.

    Several threads may run this at once: ``counter`` hands each its next chunk of rows. Adds the codes' statistics to
    the chunk's line of ``totals``, float64: for each atom its products with the codes of the atoms up to it (m places)
    and with the rows (d places); then the sums of the absolute codes and of the squared rows. ``atoms`` (m, d) and
    ``gram`` (m, m; zero diagonal) are flat, of the rows' dtype; ``l1_neg`` is the penalty of negative codes.
    """
    while True:
        chunk = take(counter)
        if chunk >= totals.shape[0]:
            return
        end = min((chunk + 1) * chunk_rows, len(rows))
        _sweep_chunk(rows, codes, chunk * chunk_rows, end, atoms, gram, inverse, l1, l1_neg, sweeps, totals[chunk])


@compiled
def _sweep_chunk(rows, codes, begin, end, atoms, gram, inverse, l1, l1_neg, sweeps, totals):
    m, d = codes.shape[1], rows.shape[1]
    stride = m + d
    x, z, corr = np.empty(d * BLOCK, rows.dtype), np.empty(m * BLOCK, rows.dtype), np.empty(m * BLOCK, rows.dtype)
    sums, size, energy = (
        np.zeros(m * stride * LANES, rows.dtype),
        np.zeros(BLOCK, rows.dtype),
        np.zeros(BLOCK, rows.dtype),
    )
    waiting = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        if count < BLOCK:  # zeros where there are no rows
            x[:] = z[:] = 0
        fold(rows, first, count, d, x)
        fold(codes, first, count, m, z)
        for j in range(m):
            correlate(atoms, j * d, d, x, corr, j * BLOCK)
        for _ in range(sweeps):
            for j in range(m):
                descend(gram, m, j, inverse[j], corr, z, l1, l1_neg)
        for j in range(m):
            for r in range(BLOCK):
                size[r] += abs(z[j * BLOCK + r])
            accumulate(z, j * BLOCK, z, j + 1, sums, j * stride * LANES)
            accumulate(z, j * BLOCK, x, d, sums, (j * stride + m) * LANES)
        for k in range(d):
            for r in range(BLOCK):
                energy[r] += x[k * BLOCK + r] * x[k * BLOCK + r]
        unfold(codes, first, count, m, z)
        waiting += 1
        if waiting == _FLUSH or first + BLOCK >= end:
            _flush(sums, size, energy, totals)
            waiting = 0


@compiled
def _flush(sums, size, energy, totals):
    for p in range(totals.size - 2):
        total = 0.0
        for r in range(LANES):
            total += np.float64(sums[p * LANES + r])
            sums[p * LANES + r] = 0
        totals[p] += total
    for r in range(BLOCK):
        totals[-2] += np.float64(size[r])
        totals[-1] += np.float64(energy[r])
        size[r] = energy[r] = 0


@compiled
def sweep_atoms(gram, target, atoms, sweeps):
    """Each atom in turn to its best place on the unit sphere, in place: the direction of target - gram @ the others."""
    m, d = atoms.shape
    direction = np.empty(d)
    for _ in range(sweeps):
        for j in range(m):
            if gram[j, j] <= 0:
                continue
            for k in range(d):
                direction[k] = target[j, k] + gram[j, j] * atoms[j, k]
            for i in range(m):
                for k in range(d):
                    direction[k] -= gram[j, i] * atoms[i, k]
            square = 0.0
            for k in range(d):
                square += direction[k] * direction[k]
            if square > 0:
                scale = 1.0 / np.sqrt(square)
                for k in range(d):
                    atoms[j, k] = scale * direction[k]


@compiled
def add_energy(codes, begin, end, energy):
    """Add the squares of the codes (n, m) of the rows begin to end to ``energy`` (m,), float64."""
    for r in range(begin, end):
        for j in range(energy.size):
            energy[j] += np.float64(codes[r, j]) * np.float64(codes[r, j])


@compiled
def rearrange(codes, begin, end, order, signs):
    """Column ``order[j]`` of the codes, times ``signs[j]``, becomes column j, in place, of the rows begin to end."""
    kept = np.empty(codes.shape[1], codes.dtype)
    for r in range(begin, end):
        for j in range(kept.size):
            kept[j] = signs[j] * codes[r, order[j]]
        for j in range(kept.size):
            codes[r, j] = kept[j]
