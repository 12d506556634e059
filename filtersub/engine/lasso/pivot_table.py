"""Table of principal pivots: for every set of a few atoms, what solves the normal equations on it.

For a set S with independent atoms the columns T (lanes, |S|) of the principal pivot of the Gram matrix G hold
``inverse(G_SS)`` in the rows of S and ``G_jS inverse(G_SS)`` elsewhere: one product gives the codes on S and the
gradient off it. For a dependent set the first column holds a null vector of G_SS, along which the codes can move
without changing what they reconstruct. See Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician
33(3), 1979.
"""

import functools

import numpy as np

from ..compile import compiled, compiled_wide, inlined
from ..threads import for_each
from ..vectors import full, fused, load, lowest, mask_of, scalar, select, store

_DEPENDENT = 1e-18  # squared sine of the angle to the span
_CLEAR = 0.01  # the same, from which on one projection has all digits but two
_MANY, _SHARED = 11, 3  # atoms from which on threads share the building, by which of the first three a set has
_LINE = 64  # bytes of a cache line


def lanes_for(n_atoms: int) -> tuple[int, ...]:
    """A tuple as long as the vectors of the table: 8 or 16 atoms."""
    return (0,) * (8 if n_atoms <= 8 else 16)


class Space:
    """Room for a table and the matrices that go with it, each from the beginning of a cache line on.

    lanes : see lanes_for
    columns : of the table, flat: one for each atom of each set, and one more, since sums take atoms in pairs
    gram, atoms_t : (n_atoms + 1, lanes) and (d, lanes)
    """

    def __init__(self, n_atoms: int, d: int) -> None:
        self.lanes = lanes_for(n_atoms)
        width = len(self.lanes)
        sizes = ((1 << n_atoms) * n_atoms + 1) * width, (n_atoms + 1) * width, d * width
        room = np.zeros(sum(sizes) + _LINE // 8 - 1)
        begin = -room.ctypes.data % _LINE // 8  # a vector that lies across two lines takes two loads
        self.columns, gram, atoms_t = np.split(room[begin : begin + sum(sizes)], np.cumsum(sizes)[:2])
        self.gram, self.atoms_t = gram.reshape(-1, width), atoms_t.reshape(-1, width)


@compiled
def set_up(atoms, gram, atoms_t, off_diagonal, inverse):
    """The norm of the longest atom. Fills, from atoms (n_atoms, d), in one call (numpy's forty take long for a layer):

    gram : (n_atoms + 1, lanes) and atoms_t (d, lanes), zero beyond lane n_atoms; the last row of gram is zero
    off_diagonal : float32, flat (n_atoms, n_atoms), the Gram matrix but for its diagonal
    inverse : float32 (n_atoms,), one over the diagonal, or zero
    """
    n_atoms, d = atoms.shape
    gram[:] = 0.0
    atoms_t[:] = 0.0
    longest = 0.0
    for i in range(n_atoms):
        for k in range(d):
            atoms_t[k, i] = atoms[i, k]
        for j in range(i + 1):
            product = 0.0
            for k in range(d):
                product += atoms[i, k] * atoms[j, k]
            gram[i, j] = gram[j, i] = product
            off_diagonal[i * n_atoms + j] = off_diagonal[j * n_atoms + i] = np.float32(product)
        square = gram[i, i]
        off_diagonal[i * n_atoms + i] = np.float32(0.0)
        inverse[i] = np.float32(1.0 / square) if square > 0 else np.float32(0.0)
        if not square <= longest:  # NaN stays
            longest = square
    return np.sqrt(longest)


def build(gram: np.ndarray, atoms_t: np.ndarray, columns: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (n_sets, n_atoms, lanes) and one of zeros, flat, zero off the set, and which sets are dependent.

    gram : float64 array of shape (n_atoms, lanes); atoms_t : (d, lanes); both zero beyond lane n_atoms; columns : of
    a Space, zero. Of a dependent set only the first column counts.
    """
    n_atoms = len(gram)
    dependent = _too_many(n_atoms, atoms_t.shape[0]).copy()
    lanes, shared = lanes_for(n_atoms), _SHARED if n_atoms >= _MANY and threads > 1 else 0
    _fill(gram, atoms_t, columns, dependent, 0, shared or n_atoms, 0, lanes)
    if shared:
        kinds = ((gram, atoms_t, columns, dependent, shared, n_atoms, kind, lanes) for kind in range(1 << shared))
        for_each(_fill, kinds, threads)
    return columns, dependent


@functools.cache
def _too_many(n_atoms: int, d: int) -> np.ndarray:
    """Which sets have more than d atoms."""
    return (np.arange(1 << n_atoms)[:, None] >> np.arange(n_atoms) & 1).sum(1) > d


@inlined
def _weigh_columns(columns, source, gram, first, members, weights, lanes):
    """``weights = sum over the members i of gram[first + i] * column i``, the columns from ``columns[source:]`` on."""
    total = full(0.0, lanes)
    while members:
        i = lowest(members)
        total = fused(scalar(gram, first + i), load(columns, source + i * len(lanes), lanes), total)
        members &= members - 1
    store(weights, 0, total)


@inlined
def _border_columns(columns, source, target, weights, members, atom, lanes):
    """``column i at target = column i at source - weights[i] * column atom at target`` for the members i.

    Except in lane ``atom``, where the source is left out. Columns of others are not touched: most of the table is
    zero, and a pass over all of it would take longer than the sums.
    """
    others = mask_of(~(1 << atom), lanes)
    last = load(columns, target + atom * len(lanes), lanes)
    while members:
        i = lowest(members)
        column = select(others, load(columns, source + i * len(lanes), lanes), 0.0)
        store(columns, target + i * len(lanes), fused(-scalar(weights, i), last, column))
        members &= members - 1


@compiled_wide
def _fill(gram, atoms_t, columns, dependent, first, last, kind, lanes):
    """Each set from the one without its highest atom, by bordering: those whose highest is ``first`` to ``last - 1``.

    Of these the sets that agree with ``kind`` in the atoms below ``first``: they need none that do not.
    """
    n_atoms, width = gram.shape
    size = n_atoms * width
    weights, schur, remainder = np.zeros(width), np.zeros(width), np.zeros(atoms_t.shape[0])
    for atom in range(first, last):
        for smaller in range(kind, 1 << atom, 1 << first):
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
    _weigh_columns(columns, source, gram, atom * width, members, weights, lanes)
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
    _border_columns(columns, source, target, weights, members, atom, lanes)
