"""Exact LASSO of many rows over a few atoms: guess the support, exchange atoms by table, check.

Per row: (1) the codes given, or coordinate descent in float32 on 64 rows at once, yield a support with signs; (2) the
primal-dual active set method (Hintermueller, Ito, Kunisch, SIAM J. Optim. 13(3), 2002) exchanges all violators at
once, each step one product with the table of principal pivots; (3) where that cycles, the active set method of Lee,
Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006) changes one atom at a time and never increases
the objective, so it ends; (4) a product with the Gram matrix checks the result. (2) to (4) in float64.
"""

from __future__ import annotations

import numpy as np

from ._lasso_exchange import exchange_singly
from ._lasso_guess import guess_codes
from ._lasso_jit import compiled
from ._lasso_simd import (
    BLOCK,
    correlate,
    judge,
    lowest,
    newton_step,
    pivot_step,
    residuals,
    signs_of,
    take,
)
from ._moves_simd import convert, copy_vector, fetch

CHUNK = 16 * BLOCK  # rows; fixed, so that sums do not depend on the number of threads
EXCHANGES = 5  # steps of the primal-dual method before the slow and sure one
_AHEAD, _FAR = 3, 11  # rows for which the table is asked in advance; atoms from which on it lies in far caches
_TRIES = 3  # steps on one active set: one to solve, the others to refine
_PATIENCE = 200  # changes of one atom; nearly all rows need fewer than 20
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom


@compiled
def solve_rows(rows, given, codes, totals, counter, lot, atoms, table, guess, l1, down, tol, max_iter, lanes):
    """Fill ``codes`` (n, m) and ``totals`` (n_chunks, 2 * lanes + 4); ``given`` is empty for a cold start.

    Several threads may run this at once: ``counter`` hands each its next chunk of rows, ``lot`` of them at most.
    ``down`` is the penalty of negative codes. rows, given and codes are flat.
    """
    _, _, _, n_atoms, d = atoms
    width = len(lanes)
    n_rows = codes.size // n_atoms
    data, corr, energy = np.zeros(BLOCK * d), np.zeros(BLOCK * width), np.zeros(BLOCK)
    corr32, codes32 = np.zeros(n_atoms * BLOCK, np.float32), np.zeros(n_atoms * BLOCK, np.float32)
    sets, start, solved = (
        np.zeros((2, BLOCK), np.int64),
        np.zeros(BLOCK * n_atoms + width),
        np.zeros(BLOCK * n_atoms + width),
    )
    for _ in range(lot):
        chunk = take(counter)
        if chunk >= totals.shape[0]:
            return
        end = min((chunk + 1) * CHUNK, n_rows)
        for begin in range(chunk * CHUNK, end, BLOCK):
            count = min(BLOCK, end - begin)
            convert(rows, begin * d, data, 0, count * d)
            _correlate_block(data, count, atoms, corr, energy, lanes)
            if given.size > 0:
                convert(given, begin * n_atoms, start, 0, count * n_atoms)
                for r in range(count):
                    sets[0, r], sets[1, r] = signs_of(start, r * n_atoms, down, lanes)
            else:
                _guess(corr, guess, l1, down, n_atoms, count, width, corr32, codes32, sets)
                for r in range(count):
                    for j in range(n_atoms):
                        start[r * n_atoms + j] = codes32[j * BLOCK + r]
            _solve_block(
                count, corr, energy, sets, start, solved, totals[chunk], atoms, table, l1, down, tol, max_iter, lanes
            )
            convert(solved, 0, codes, begin * n_atoms, count * n_atoms)


@compiled
def _correlate_block(data, count, atoms, corr, energy, lanes):
    _, atoms_t, _, _, d = atoms
    for r in range(count):
        energy[r] = correlate(data, r * d, d, atoms_t, corr, r * len(lanes), lanes)


@compiled
def _guess(corr, guess, l1, down, n_atoms, count, width, corr32, codes32, sets):
    """Signs by coordinate descent from zero."""
    for k in range(codes32.size):
        codes32[k] = 0.0
    guess_codes(corr, width, guess, l1, down, n_atoms, count, corr32, codes32)
    for r in range(BLOCK):
        sets[0, r] = sets[1, r] = 0
    for j in range(n_atoms):
        for r in range(BLOCK):
            sets[0, r] |= np.int64(codes32[j * BLOCK + r] != 0) << j
            sets[1, r] |= np.int64(codes32[j * BLOCK + r] > 0) << j


@compiled
def _solve_block(count, corr, energy, sets, start, solved, totals, atoms, table, l1, down, tol, max_iter, lanes):
    """Solve a block of rows from the signs in ``sets``, or the codes in ``start``, into ``solved``.

    What a row of them needs is in this one function: numba counts references to arrays wherever they are unpacked.
    """
    gram, _, norm, n_atoms, _ = atoms
    columns, dependent = table
    width = len(lanes)
    everything = (1 << n_atoms) - 1
    y, z, left = np.zeros(width), np.zeros(width), np.zeros(width)
    square = worst = 0.0
    for r in range(count):
        if n_atoms >= _FAR and r + _AHEAD < count:
            fetch(columns, (sets[0, r + _AHEAD] & everything) * n_atoms * width, everything, lanes)
        square += energy[r]
        rounding = _RELATIVE * n_atoms * norm * np.sqrt(energy[r])
        worst = max(worst, rounding)
        slack = tol * l1 + rounding
        active, positive, failing = sets[0, r] & everything, sets[1, r] & everything, np.int64(1)
        for _ in range(EXCHANGES):
            if dependent[active]:
                break
            next_active, next_positive = pivot_step(
                columns, active, positive, corr, r * width, l1, l1 + slack, -down - slack, n_atoms, y, lanes
            )
            if next_active == active and next_positive == positive:
                failing = judge(gram, n_atoms, active, positive, corr, r * width, l1, down, slack, y, totals, lanes)
                break
            active, positive = next_active, next_positive
        if failing:
            active, positive = sets[0, r] & everything, sets[1, r] & everything
            for j in range(n_atoms):
                z[j] = start[r * n_atoms + j] if active >> j & 1 else 0.0
            active, positive, steps = exchange_singly(
                columns, dependent, corr, r * width, l1, down, slack, active, positive, n_atoms, max_iter, z, y, lanes
            )
            if steps > 0:
                failing = judge(gram, n_atoms, active, positive, corr, r * width, l1, down, slack, y, totals, lanes)
                totals[2 * width + 3] = max(totals[2 * width + 3], steps)
        if failing:
            active, positive = sets[0, r] & everything, sets[1, r] & everything
            for j in range(n_atoms):
                z[j] = start[r * n_atoms + j] if active >> j & 1 else 0.0
            problem = (gram, n_atoms, l1, down, max_iter)
            steps = _descend(
                columns, dependent, corr, r * width, slack, active, positive, problem, z, y, left, totals, lanes
            )
            totals[2 * width + 2] += 1
            totals[2 * width + 3] = max(totals[2 * width + 3], steps)
        copy_vector(y, solved, r * n_atoms, lanes)  # what it writes too far, the next rows overwrite
    totals[2 * width] += square
    totals[2 * width + 1] = max(totals[2 * width + 1], worst)


@compiled
def _descend(columns, dependent, corr, first, slack, active, positive, problem, z, y, left, totals, lanes):
    """One atom at a time from the codes z, in which ``active`` and ``positive`` agree; the result in y."""
    gram, n_atoms, l1, down, max_iter = problem
    size = n_atoms * len(lanes)
    steps, tries = 0, 0
    while steps < max_iter:
        steps += 1
        if steps > _PATIENCE:  # atoms apart by little more than rounding take turns; let them be
            slack = max(slack, 1e-7 * l1)
        start = active * size
        if dependent[active]:
            active, tries = _slide(columns, start, active, positive, z, lanes), 0
            continue
        unsolved, enters = residuals(gram, n_atoms, active, positive, corr, first, l1, down, slack, z, left, lanes)
        if unsolved and tries <= _TRIES:
            wrong = newton_step(columns, start, active, positive, left, z, y, lanes)
            active, tries = active & ~_walk(wrong, y, z, lanes), 0 if wrong else tries + 1
            continue
        if not enters:
            break
        entering = _largest(enters, left)
        active, tries = active | (1 << entering), 0
        positive = positive | (1 << entering) if left[entering] > 0 else positive & ~(1 << entering)
    positive &= active
    for j in range(len(lanes)):
        y[j] = z[j]
    judge(gram, n_atoms, active, positive, corr, first, l1, down, np.inf, y, totals, lanes)
    return steps


@compiled
def _largest(atoms, values):
    """The atom of a set with the largest absolute value."""
    best = lowest(atoms)
    while atoms:
        atom = lowest(atoms)
        if abs(values[atom]) > abs(values[best]):
            best = atom
        atoms &= atoms - 1
    return best


@compiled
def _walk(wrong, y, z, lanes):
    """Move z towards y until the first of the atoms with wrong signs in y reaches zero; those that do."""
    length, rest = 1.0, wrong
    while rest:
        j = lowest(rest)
        length = min(length, z[j] / (z[j] - y[j]) if z[j] != 0 else 0.0)
        rest &= rest - 1
    blocked, rest = 0, wrong
    while rest:
        j = lowest(rest)
        if z[j] == 0 or z[j] / (z[j] - y[j]) <= length:
            blocked |= 1 << j
        rest &= rest - 1
    for j in range(len(lanes)):
        z[j] += length * (y[j] - z[j])
    rest = blocked
    while rest:
        z[lowest(rest)] = 0.0
        rest &= rest - 1
    return blocked


@compiled
def _slide(columns, start, active, positive, z, lanes):
    """Move z along the null vector of a dependent set, L1 norm downwards, until a code is zero; the set without it."""
    slope, rest = 0.0, active
    while rest:
        j = lowest(rest)
        slope += columns[start + j] if positive >> j & 1 else -columns[start + j]
        rest &= rest - 1
    way = -1.0 if slope > 0 else 1.0
    length, blocking, rest = np.inf, lowest(active), active
    while rest:
        j = lowest(rest)
        speed = way * columns[start + j]
        if speed != 0 and (speed < 0) == (positive >> j & 1) and -z[j] / speed < length:
            length, blocking = -z[j] / speed, j
        rest &= rest - 1
    if length == np.inf:  # the way down is flat within rounding: any atom will do
        length = 0.0
    for j in range(len(lanes)):
        z[j] += length * way * columns[start + j]
    z[blocking] = 0.0
    return active & ~(1 << blocking)
