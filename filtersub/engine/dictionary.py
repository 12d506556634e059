"""The compiled loops of dictionary learning: sweeps over codes with their statistics, and over atoms.

64 rows side by side, one atom or coordinate at a time. Flat arrays of float32 or float64. A block of rows is laid out
(d, 64) and its codes (n_atoms, 64), so that every instruction works on whole vectors; where a block begins in its array
is an argument.
"""

import numpy as np

from .compile import compiled, inlined
from .coordinate_descent import BLOCK, descend
from .vectors import correlate, fused, load, store, take

LANES = 16  # partial sums of a product over 64 rows
_FLUSH = 16  # blocks whose products are summed in the dtype of the rows before they go to float64


@inlined
def _accumulate(left, first, others, count, sums, place):
    """Add the products of one vector of ``left`` with ``count`` vectors of ``others`` to their LANES partial sums."""
    one, two = load(left, first, LANES), load(left, first + LANES, LANES)
    three, four = load(left, first + 2 * LANES, LANES), load(left, first + 3 * LANES, LANES)
    for k in range(count):
        start, target = k * BLOCK, place + k * LANES
        total = fused(one, load(others, start, LANES), load(sums, target, LANES))
        total = fused(two, load(others, start + LANES, LANES), total)
        total = fused(three, load(others, start + 2 * LANES, LANES), total)
        store(sums, target, fused(four, load(others, start + 3 * LANES, LANES), total))


@inlined
def _fold(source, first, count, width, block):
    """``block[k, r] = source[first + r, k]``, r < count, k < width: rows side by side.

    Vectors of one number keep LLVM from gathers and scatters, which cost far more.
    """
    for r in range(count):
        for k in range(width):
            store(block, k * BLOCK + r, load(source, (first + r) * width + k, 1))


@inlined
def _unfold(target, first, count, width, block):
    """The inverse of fold."""
    for r in range(count):
        for k in range(width):
            store(target, (first + r) * width + k, load(block, k * BLOCK + r, 1))


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
    sums = np.zeros(m * stride * LANES, rows.dtype)
    size, energy = np.zeros(BLOCK, rows.dtype), np.zeros(BLOCK, rows.dtype)
    waiting = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        if count < BLOCK:  # zeros where there are no rows
            x[:] = z[:] = 0
        _fold(rows, first, count, d, x)
        _fold(codes, first, count, m, z)
        for j in range(m):
            store(corr, j * BLOCK, correlate(atoms, j * d, d, x, 0, BLOCK, BLOCK))
        for _ in range(sweeps):
            for j in range(m):
                descend(gram, m, j, inverse[j], corr, z, l1, l1_neg)
        for j in range(m):
            for r in range(BLOCK):
                size[r] += abs(z[j * BLOCK + r])
            _accumulate(z, j * BLOCK, z, j + 1, sums, j * stride * LANES)
            _accumulate(z, j * BLOCK, x, d, sums, (j * stride + m) * LANES)
        for k in range(d):
            for r in range(BLOCK):
                energy[r] += x[k * BLOCK + r] * x[k * BLOCK + r]
        _unfold(codes, first, count, m, z)
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
