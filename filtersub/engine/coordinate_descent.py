"""Coordinate descent for the LASSO on blocks of 64 rows at once, float32 or float64: one atom at a time, all rows."""

import numpy as np

from .compile import compiled, inlined
from .vectors import fused, load, scalar, select, store

BLOCK = 64  # rows side by side


@inlined
def descend(gram, n_atoms, atom, inverse, corr, codes, l1, l1_neg):
    """Minimise over the codes of one atom, the others fixed: the correlation left, shrunk, over the atom's square.

    ``gram`` is flat (n_atoms, n_atoms) with a zero diagonal, ``corr`` and ``codes`` flat (n_atoms, BLOCK), all of one
    dtype. ``l1_neg`` penalises negative codes.
    """
    rest = load(corr, atom * BLOCK, BLOCK)
    for other in range(n_atoms):
        rest = fused(-scalar(gram, atom * n_atoms + other), load(codes, other * BLOCK, BLOCK), rest)
    positive, negative = rest - l1, rest + l1_neg
    shrunk = select(positive > 0.0, positive, 0.0) + select(negative < 0.0, negative, 0.0)
    store(codes, atom * BLOCK, shrunk * inverse)


@compiled
def guess_codes(corr, stride, guess, l1, l1_neg, n_atoms, count, corr32, codes32):
    """Improve ``codes32`` (n_atoms, BLOCK) flat, by the correlations ``corr[r * stride + j]`` of ``count`` rows."""
    gram32, inverse, sweeps = guess
    for j in range(n_atoms):
        for r in range(count):
            corr32[j * BLOCK + r] = corr[r * stride + j]
    for _ in range(sweeps):
        for j in range(n_atoms):
            descend(gram32, n_atoms, j, inverse[j], corr32, codes32, np.float32(l1), np.float32(l1_neg))
