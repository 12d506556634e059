"""Table of principal pivots: for every set of a few atoms, what solves the normal equations on it.

For a set S with independent atoms the packed columns T (lanes, |S|) of the principal pivot of the Gram matrix G hold
``inverse(G_SS)`` in the rows of S and ``G_jS inverse(G_SS)`` elsewhere: one product gives the codes on S and the
gradient off it. For a dependent set the first column holds a null vector of G_SS, along which the codes can move
without changing what they reconstruct. See Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician
33(3), 1979.
"""

from __future__ import annotations

import numpy as np

from ._lasso_simd import compiled

_DEPENDENT = 1e-18  # squared sine of the angle to the span


def lanes_for(n_atoms: int) -> tuple[int, ...]:
    """A tuple as long as the vectors of the table: 8 or 16 atoms."""
    return (0,) * (8 if n_atoms <= 8 else 16)


def build(gram: np.ndarray, atoms_t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns (flat), first element of each set, and which sets are dependent.

    gram : float64 array of shape (n_atoms, lanes); atoms_t : (d, lanes); both zero beyond lane n_atoms
    """
    n_sets, width = 1 << gram.shape[0], gram.shape[1]
    sizes = (np.arange(n_sets)[:, None] >> np.arange(gram.shape[0]) & 1).sum(1)
    starts = np.zeros(n_sets, np.int64)
    np.cumsum(sizes[:-1] * width, out=starts[1:])
    columns = np.zeros(int(sizes.sum()) * width)
    dependent = sizes > atoms_t.shape[0]
    _fill(gram, atoms_t, columns, starts, dependent)
    return columns, starts, dependent


@compiled
def _fill(gram, atoms_t, columns, starts, dependent):
    """Each set from the one without its highest atom, by bordering."""
    n_atoms, width = gram.shape
    weights, schur, remainder = np.zeros(width), np.zeros(width), np.zeros(atoms_t.shape[0])
    for atom in range(n_atoms):
        for smaller in range(1 << atom):
            source, target = starts[smaller], starts[smaller | (1 << atom)]
            if dependent[smaller]:
                dependent[smaller | (1 << atom)] = True
                for j in range(width):
                    columns[target + j] = columns[source + j]
                continue
            _project(gram, atoms_t, columns, source, smaller, atom, weights, schur, remainder)
            if dependent[smaller | (1 << atom)] or _is_dependent(gram, atom, weights, schur[atom]):
                dependent[smaller | (1 << atom)] = True
                for j in range(width):
                    columns[target + j] = -weights[j]
                columns[target + atom] = 1.0
            else:
                _border(columns, source, target, smaller, atom, weights, schur)


@compiled
def _project(gram, atoms_t, columns, source, members, atom, weights, schur, remainder):
    """Weights of the members in the projection of the atom; what remains of it, times every atom, in ``schur``.

    The remainder is formed in the space of the rows and projected twice: from the Gram matrix alone, float64 would
    tell dependent from independent only down to 1e-8 of the angle, and generic atoms fall below that.
    """
    width = gram.shape[1]
    for j in range(width):
        weights[j], schur[j] = 0.0, gram[atom, j]
    for _ in range(3):
        place = source
        for i in range(atom):
            if members >> i & 1:
                for j in range(width):
                    weights[j] += schur[i] * columns[place + j]
                place += width
        for j in range(width):
            weights[j] = weights[j] if members >> j & 1 else 0.0
            schur[j] = 0.0
        for k in range(atoms_t.shape[0]):
            rest = atoms_t[k, atom]
            for j in range(width):
                rest -= weights[j] * atoms_t[k, j]
            remainder[k] = rest
            for j in range(width):
                schur[j] += rest * atoms_t[k, j]
    schur[atom] = 0.0
    for k in range(atoms_t.shape[0]):
        schur[atom] += remainder[k] * remainder[k]


@compiled
def _is_dependent(gram, atom, weights, pivot):
    total = 1.0
    for j in range(weights.size):
        total += abs(weights[j])
    return pivot <= _DEPENDENT * gram[atom, atom] * total * total


@compiled
def _border(columns, source, target, members, atom, weights, schur):
    """Columns of the pivot of ``members`` and the atom, which is above them, from those of ``members``."""
    width = weights.size
    inverse = 1.0 / schur[atom]
    last = target
    for i in range(atom):
        last += width * (members >> i & 1)
    for j in range(width):
        columns[last + j] = (-weights[j] if members >> j & 1 else schur[j]) * inverse
    columns[last + atom] = inverse
    place, moved = source, target
    for i in range(atom):
        if members >> i & 1:
            for j in range(width):
                columns[moved + j] = columns[place + j] - weights[i] * columns[last + j]
            columns[moved + atom] = -weights[i] * inverse
            place += width
            moved += width
