"""Exact LASSO of many rows over more atoms than a table can hold: an active set per row.

Per row an active set is settled by single exchanges from given codes; without them the solution path is followed from
the penalty at which all codes are zero. Rows that this leaves, nearly dependent atoms above all, go to a slow and sure
method. All in float64, and each way checks the row's optimality conditions with the Gram matrix itself.
"""

from __future__ import annotations

import numpy as np

from ..compile import compiled_wide
from ..vectors import take
from .active_set import CODES, clear, enter, follow, new_active, settle
from .active_set_vectors import LANES
from .fallback import add_objective_and_violation, new_state, solve_row

CHUNK = 256  # rows; fixed, so that sums do not depend on the number of threads
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom


def padded_width(n_atoms: int) -> int:
    """Length of the rows of the Gram matrix: whole vectors."""
    return -(-n_atoms // LANES) * LANES


@compiled_wide
def solve_rows(rows, given, codes, totals, counter, limit, gram, atoms, atoms_t, l1, l1_neg, tol, max_iter):
    """Fill ``codes`` (n, m) and ``totals`` (n_chunks, 5): objective, violation, rounding, exchanges, slow rows.

    Several threads may run this at once: ``counter`` hands each its next chunk of rows, ``limit`` of them at most.
    ``gram`` is padded, ``l1_neg`` the penalty of negative codes.
    """
    n_atoms, d = atoms.shape
    room = min(n_atoms, d) + 1
    space, members, shape = new_active(n_atoms, room)
    slow = new_state(n_atoms, d, room)
    row, start, z, corr = np.zeros(d), np.zeros(n_atoms), np.zeros(n_atoms), np.zeros(n_atoms)
    warm = given.size > 0
    relative = 0.0
    for j in range(n_atoms):
        relative = max(relative, _RELATIVE * n_atoms * np.sqrt(gram[j, j]))
    for _ in range(limit):
        chunk = take(counter)
        if chunk >= totals.shape[0]:
            return
        total = totals[chunk]
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, rows.shape[0])):
            for k in range(d):
                row[k] = rows[r, k]
            energy = _correlate(row, atoms_t, corr)
            for j in range(n_atoms):
                start[j] = given[r, j] if warm else 0.0
            rounding = relative * np.sqrt(energy)
            total[0] += 0.5 * energy
            total[2] = max(total[2], rounding)
            slack = tol * l1 + rounding
            if not _solve(corr, gram, l1, l1_neg, slack, max_iter, warm, start, z, space, members, shape, room, total):
                _solve_surely(corr, gram, atoms, l1, l1_neg, slack, max_iter, z, slow, total)
            for j in range(n_atoms):
                codes[r, j] = z[j]


@compiled_wide
def _solve(corr, gram, l1, l1_neg, slack, max_iter, warm, start, z, space, members, shape, room, total):
    """Solve a row into z; whether that went well. If not, z is where to go on from."""
    max_steps = min(max_iter, 8 * room + 8)
    count = np.int64(-1)
    if warm:
        count = _activate(gram, l1_neg, start, room, space, members, shape)
        if count >= 0:
            count = settle(corr, gram, l1, l1_neg, slack, max_steps, space, members, shape, count, total)
    solved = count >= 0
    if not solved:
        count = follow(corr, gram, l1, l1_neg, room, max_steps, space, members, shape)
        if count < 0:
            count = -1 - count
        else:
            reached = settle(corr, gram, l1, l1_neg, slack, max_steps, space, members, shape, count, total)
            solved = reached >= 0
            count = max(reached, 0)
    for j in range(z.size):
        z[j] = 0.0
    for e in range(count):
        z[members[e]] = space[CODES * shape[0] + e]
    return solved


@compiled_wide
def _activate(gram, l1_neg, start, room, space, members, shape):
    """Make the atoms of these codes active, but those that hardly differ from others; -1 where they are too many."""
    clear(space, shape)
    count = np.int64(0)
    for j in range(start.size):
        if start[j] != 0 and abs(start[j]) < np.inf and (start[j] > 0 or l1_neg < np.inf):
            if count == room:
                return -1
            if enter(gram, j, 1.0 if start[j] > 0 else -1.0, start[j], space, members, shape, count):
                count += 1
    return count


@compiled_wide
def _solve_surely(corr, gram, atoms, l1, l1_neg, slack, max_iter, z, state, total):
    steps = solve_row(corr, gram, atoms, l1, l1_neg, slack, max_iter, z, state)
    total[3] = max(total[3], steps)
    total[4] += 1
    add_objective_and_violation(corr, gram, l1, l1_neg, z, state[4], total)


@compiled_wide
def _correlate(row, atoms_t, corr):
    """Write ``row @ atoms_t`` to corr, four elements of the row at a time; returns the square of the row."""
    d, n_atoms = atoms_t.shape
    energy = 0.0
    for k in range(d):
        energy += row[k] * row[k]
    for j in range(n_atoms):
        corr[j] = 0.0
    k = 0
    while k + 4 <= d:
        x0, x1, x2, x3 = row[k], row[k + 1], row[k + 2], row[k + 3]
        for j in range(n_atoms):
            corr[j] += x0 * atoms_t[k, j] + x1 * atoms_t[k + 1, j] + x2 * atoms_t[k + 2, j] + x3 * atoms_t[k + 3, j]
        k += 4
    while k < d:
        for j in range(n_atoms):
            corr[j] += row[k] * atoms_t[k, j]
        k += 1
    return energy
