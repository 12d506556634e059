"""Exact LASSO of many rows over a few atoms: guess the support, exchange atoms by table, check.

Per row: (1) coordinate descent in float32 on 64 rows at once, from zero or the codes given, yields a support with
signs; (2) the primal-dual active set method (Hintermueller, Ito, Kunisch, SIAM J. Optim. 13(3), 2002) exchanges all
violators at once, each step one product with the table of principal pivots; (3) where that cycles, the active set
method of Lee, Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006) changes one atom at a time and
never increases the objective, so it ends; (4) a product with the Gram matrix checks the result. (2) to (4) in float64.
"""

from __future__ import annotations

import numpy as np

from ._lasso_guess import guess_codes
from ._lasso_simd import (
    BLOCK,
    compiled,
    copy_vector,
    correlate,
    fetch,
    judge,
    lowest,
    newton_step,
    pivot_step,
    residuals,
)

CHUNK = 16 * BLOCK  # rows; fixed, so that sums do not depend on the number of threads
EXCHANGES = 5  # steps of the primal-dual method before the slow and sure one
_AHEAD = 4  # rows for which the table is asked in advance
_TRIES = 3  # steps on one active set: one to solve, the others to refine
_PATIENCE = 200  # changes of one atom; nearly all rows need fewer than 20
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom


@compiled
def solve_rows(rows, given, codes, totals, atoms, table, guess, l1, tol, max_iter, lanes):
    """Fill ``codes`` (n, m) and ``totals`` (n_chunks, 2 * lanes + 4); ``given`` is empty for a cold start."""
    for chunk in range(totals.shape[0]):
        _solve_chunk(rows, given, codes, totals[chunk], atoms, table, guess, l1, tol, max_iter, chunk, lanes)


@compiled
def _solve_chunk(rows, given, codes, totals, atoms, table, guess, l1, tol, max_iter, chunk, lanes):
    gram, atoms_t, norm, n_atoms, d = atoms
    columns, starts, _ = table
    width = len(lanes)
    corr, energy, sets = np.zeros(BLOCK * width), np.zeros(BLOCK), np.zeros((2, BLOCK), np.int32)
    corr32, codes32 = np.zeros(n_atoms * BLOCK, np.float32), np.zeros(n_atoms * BLOCK, np.float32)
    y, z, left = np.zeros(width), np.zeros(width), np.zeros(width)
    end = min((chunk + 1) * CHUNK, rows.shape[0])
    for begin in range(chunk * CHUNK, end, BLOCK):
        count = min(BLOCK, end - begin)
        for r in range(count):
            energy[r] = correlate(rows, (begin + r) * d, d, atoms_t, corr, r * width, lanes)
        _start(given, begin, n_atoms, count, codes32)
        guess_codes(corr, width, guess, l1, n_atoms, count, corr32, codes32)
        _signs(codes32, n_atoms, sets)
        for r in range(count):
            ahead = np.int64(sets[0, min(r + _AHEAD, count - 1)])
            fetch(columns, starts[ahead], ahead, lanes)
            active, positive = np.int64(sets[0, r]), np.int64(sets[1, r])
            rounding = _RELATIVE * n_atoms * norm * np.sqrt(energy[r])
            slack = tol * l1 + rounding
            totals[2 * width] += energy[r]
            totals[2 * width + 1] = max(totals[2 * width + 1], rounding)
            if not _exchange(table, corr, r * width, l1, slack, active, positive, gram, y, totals, lanes):
                for j in range(n_atoms):
                    z[j] = codes32[j * BLOCK + r]
                steps = _descend(
                    table, corr, r * width, l1, slack, active, positive, gram, max_iter, z, y, left, totals, lanes
                )
                totals[2 * width + 2] += 1
                totals[2 * width + 3] = max(totals[2 * width + 3], steps)
            first = (begin + r) * n_atoms
            if end * n_atoms - first >= width:
                copy_vector(y, codes, first, lanes)  # what it writes too far, the next rows overwrite
            else:
                for j in range(n_atoms):
                    codes[begin + r, j] = y[j]


@compiled
def _start(given, begin, n_atoms, count, codes32):
    """Codes of a block to start from: those given, where they are finite, or zero."""
    for j in range(n_atoms):
        for r in range(BLOCK):
            codes32[j * BLOCK + r] = 0.0
    if given.size > 0:
        for r in range(count):
            for j in range(n_atoms):
                code = np.float32(given[begin + r, j])
                codes32[j * BLOCK + r] = code if abs(code) < np.inf else np.float32(0.0)


@compiled
def _signs(codes32, n_atoms, sets):
    for r in range(BLOCK):
        sets[0, r] = sets[1, r] = 0
    for j in range(n_atoms):
        for r in range(BLOCK):
            sets[0, r] |= np.int32(codes32[j * BLOCK + r] != 0) << j
            sets[1, r] |= np.int32(codes32[j * BLOCK + r] > 0) << j


@compiled
def _exchange(table, corr, first, l1, slack, active, positive, gram, y, totals, lanes):
    """The primal-dual method; whether it ended at a solution, then in y and entered in the totals."""
    columns, starts, dependent = table
    for _ in range(EXCHANGES):
        if dependent[active]:
            return False
        next_active, next_positive = pivot_step(
            columns, starts[active], active, positive, corr, first, l1, l1 + slack, y, lanes
        )
        if next_active == active and next_positive == positive:
            return judge(gram, active, positive, corr, first, l1, slack, y, totals, lanes) == 0
        active, positive = next_active, next_positive
    return False


@compiled
def _descend(table, corr, first, l1, slack, active, positive, gram, max_iter, z, y, left, totals, lanes):
    """One atom at a time from the codes z, in which ``active`` and ``positive`` agree; the result in y."""
    columns, starts, dependent = table
    steps, tries = 0, 0
    while steps < max_iter:
        steps += 1
        if steps > _PATIENCE:  # atoms apart by little more than rounding take turns; let them be
            slack = max(slack, 1e-7 * l1)
        start = starts[active]
        if dependent[active]:
            active, tries = _slide(columns, start, active, positive, z, lanes), 0
            continue
        unsolved, enters = residuals(gram, active, positive, corr, first, l1, slack, z, left, lanes)
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
    judge(gram, active, positive, corr, first, l1, np.inf, y, totals, lanes)
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
