"""Table of principal pivots: for every set of a few atoms, what solves the normal equations on it.

For a set S with independent atoms the columns T (lanes, |S|) of the principal pivot of the Gram matrix G hold
``inverse(G_SS)`` in the rows of S and ``G_jS inverse(G_SS)`` elsewhere: one product gives the codes on S and the
gradient off it. For a dependent set the first column holds a null vector of G_SS, along which the codes can move
without changing what they reconstruct. See Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician
33(3), 1979.
"""

from __future__ import annotations

import functools

import numpy as np

from ._lasso_jit import compiled_wide
from ._lasso_table_simd import border_columns, weigh_columns

_DEPENDENT = 1e-18  # squared sine of the angle to the span
_CLEAR = 0.01  # the same, from which on one projection has all digits but two


def lanes_for(n_atoms: int) -> tuple[int, ...]:
    """A tuple as long as the vectors of the table: 8 or 16 atoms."""
    return (0,) * (8 if n_atoms <= 8 else 16)


def build(gram: np.ndarray, atoms_t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns (n_sets, n_atoms, lanes) and one of zeros, flat, zero off the set, and which sets are dependent.

    gram : float64 array of shape (n_atoms, lanes); atoms_t : (d, lanes); both zero beyond lane n_atoms
    """
    n_atoms, width = gram.shape
    columns = np.zeros(((1 << n_atoms) * n_atoms + 1) * width)  # and one: sums take atoms in pairs
    dependent = _members(n_atoms) > atoms_t.shape[0]
    _fill(gram, atoms_t, columns, dependent, lanes_for(n_atoms))
    return columns, dependent


@functools.cache
def _members(n_atoms: int) -> np.ndarray:
    """How many atoms each set has."""
    return (np.arange(1 << n_atoms)[:, None] >> np.arange(n_atoms) & 1).sum(1)


@compiled_wide
def _fill(gram, atoms_t, columns, dependent, lanes):
    """Each set from the one without its highest atom, by bordering."""
    n_atoms, width = gram.shape
    size = n_atoms * width
    weights, schur, remainder = np.zeros(width), np.zeros(width), np.zeros(atoms_t.shape[0])
    for atom in range(n_atoms):
        for smaller in range(1 << atom):
            larger = smaller | (1 << atom)
            source, target = smaller * size, larger * size
            if dependent[smaller]:
                dependent[larger] = True
                for j in range(width):
                    columns[target + j] = columns[source + j]
                continue
            _project(gram, atoms_t, columns, source, smaller, atom, weights, schur, remainder, lanes)
            if dependent[larger] or _is_dependent(gram, atom, weights, schur[atom]):
                dependent[larger] = True
                for j in range(width):
                    columns[target + j] = -weights[j]
                columns[target + atom] = 1.0
            else:
                _border(columns, source, target, smaller, atom, weights, schur, lanes)


@compiled_wide
def _project(gram, atoms_t, columns, source, members, atom, weights, schur, remainder, lanes):
    """Weights of the members in the projection of the atom; what remains of it, times every atom, in ``schur``.

    One product with the columns gives both. Where little remains, it is formed in the space of the rows and projected
    again: from the Gram matrix alone, float64 would tell dependent from independent only down to 1e-8 of the angle,
    and generic atoms fall below that.
    """
    width = gram.shape[1]
    weigh_columns(columns, source, gram, atom * width, atom, weights, lanes)
    for j in range(width):
        inside = members >> j & 1
        schur[j] = 0.0 if inside else gram[atom, j] - weights[j]
        weights[j] = weights[j] if inside else 0.0
    square = schur[atom]
    for _ in range(3):
        if square > _CLEAR * gram[atom, atom]:
            break
        for j in range(width):
            schur[j] = 0.0
        for k in range(atoms_t.shape[0]):
            rest = atoms_t[k, atom]
            for j in range(width):
                rest -= weights[j] * atoms_t[k, j]
            remainder[k] = rest
            for j in range(width):
                schur[j] += rest * atoms_t[k, j]
        square = 0.0
        for k in range(atoms_t.shape[0]):
            square += remainder[k] * remainder[k]
        for i in range(atom):
            if members >> i & 1:
                for j in range(width):
                    weights[j] += schur[i] * columns[source + i * width + j] if members >> j & 1 else 0.0
    schur[atom] = square


@compiled_wide
def _is_dependent(gram, atom, weights, pivot):
    total = 1.0
    for j in range(weights.size):
        total += abs(weights[j])
    return pivot <= _DEPENDENT * gram[atom, atom] * total * total


@compiled_wide
def _border(columns, source, target, members, atom, weights, schur, lanes):
    """Columns of the pivot of ``members`` and the atom, which is above them, from those of ``members``."""
    width = weights.size
    inverse = 1.0 / schur[atom]
    last = target + atom * width
    for j in range(width):
        columns[last + j] = (-weights[j] if members >> j & 1 else schur[j]) * inverse
    columns[last + atom] = inverse
    border_columns(columns, source, target, weights, atom, lanes)
