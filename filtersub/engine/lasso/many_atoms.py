"""Exact LASSO of many rows over more atoms than a table can hold: an active set per row.

Per row: (1) where few atoms will be active, or atoms outnumber dimensions, an active set is settled by single
exchanges from given codes, otherwise the solution path is followed from the penalty at which all codes are zero; (2)
other rows have coordinate descent in float32, 64 of them at once, and exchanges of all violators; (3) what is left,
nearly dependent atoms above all, goes to a slow and sure method. All but the guess in float64, and each way checks the
row's optimality conditions with the Gram matrix itself.
"""

import numpy as np

from ..compile import compiled_wide
from ..coordinate_descent import BLOCK, guess_codes
from ..vectors import take
from .active_set import CODES, clear, enter, follow, new_active, settle
from .cholesky_exchange import exchange, new_factor
from .fallback import add_objective_and_violation, new_state, solve_row

CHUNK = 4 * BLOCK  # rows; fixed, so that sums do not depend on the number of threads
_FEW = 1 / 6  # of all atoms above the penalty, up to which one at a time is faster, where there is another way
_ROOM = 32  # active atoms at which that way is given up: a path may need more than begin above the penalty
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom


@compiled_wide
def solve_rows(rows, given, codes, totals, counter, limit, gram, atoms, atoms_t, guess, l1, l1_neg, tol, max_iter):
    """Fill ``codes`` (n, m) and ``totals`` (n_chunks, 5): objective, violation, rounding, exchanges, slow rows.

    Several threads may run this at once: ``counter`` hands each its next chunk of rows, ``limit`` of them at most.
    ``gram`` is padded, ``l1_neg`` the penalty of negative codes.
    """
    n_atoms, d = atoms.shape
    dense = n_atoms <= d
    most = min(n_atoms, d) + 1
    room = min(_ROOM, most) if dense else most
    space, members, shape = new_active(n_atoms, room)
    slow = new_state(n_atoms, d, most)
    row, start, z = np.zeros(d), np.zeros(n_atoms), np.zeros(n_atoms)
    held = BLOCK if dense else 1
    corr, codes32 = np.zeros((held, gram.shape[1])), np.zeros(held * n_atoms, np.float32)
    slacks, at, settings = np.zeros(held), np.zeros(held, np.int64), (l1, l1_neg, max_iter)
    relative = 0.0
    for j in range(n_atoms):
        relative = max(relative, _RELATIVE * n_atoms * np.sqrt(gram[j, j]))
    for _ in range(limit):
        chunk = take(counter)
        if chunk >= totals.shape[0]:
            return
        total = totals[chunk]
        waiting = np.int64(0)
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, rows.shape[0])):
            for k in range(d):
                row[k] = rows[r, k]
            energy = _correlate(row, atoms_t, corr[waiting])
            for j in range(n_atoms):
                start[j] = given[r, j] if given.size > 0 else 0.0
            rounding = relative * np.sqrt(energy)
            total[0] += 0.5 * energy
            total[2] = max(total[2], rounding)
            slack, b, warm = tol * l1 + rounding, corr[waiting, :n_atoms], given.size > 0
            solved = False
            if dense and _wanted(b, start, warm, l1, l1_neg) > _FEW * n_atoms:
                for j in range(n_atoms):
                    z[j] = start[j] if abs(start[j]) < np.inf and (start[j] > 0 or l1_neg < np.inf) else 0.0
            else:
                solved = _few(b, gram, l1, l1_neg, slack, max_iter, warm, start, z, space, members, shape, room, total)
            if not solved and dense:
                for j in range(n_atoms):
                    codes32[j * BLOCK + waiting] = z[j]
                slacks[waiting], at[waiting] = slack, r
                waiting += 1
                if waiting == BLOCK:
                    _many(corr, gram, atoms, guess, settings, slacks, codes32, waiting, slow, total, codes, at)
                    waiting = np.int64(0)
                continue
            if not solved:
                _solve_surely(b, gram, atoms, l1, l1_neg, slack, max_iter, z, slow, total)
            for j in range(n_atoms):
                codes[r, j] = z[j]
        if waiting > 0:
            _many(corr, gram, atoms, guess, settings, slacks, codes32, waiting, slow, total, codes, at)


@compiled_wide
def _many(corr, gram, atoms, guess, settings, slacks, codes32, count, slow, total, codes, at):
    """Solve a block of rows with many active atoms, from the codes in ``codes32``; row w of it is row at[w]."""
    l1, l1_neg, max_iter = settings
    n_atoms, d = atoms.shape
    z, factor = np.zeros(n_atoms), new_factor(n_atoms, gram.shape[1], min(n_atoms, d))
    corr32 = np.zeros(n_atoms * BLOCK, np.float32)
    guess_codes(corr.reshape(-1), gram.shape[1], guess, l1, l1_neg, n_atoms, count, corr32, codes32)
    for w in range(count):
        for j in range(n_atoms):
            z[j] = codes32[j * BLOCK + w]
        b = corr[w, :n_atoms]
        if not exchange(b, gram, l1, l1_neg, slacks[w], max_iter, z, factor, total):
            for j in range(n_atoms):
                z[j] = codes32[j * BLOCK + w]
            _solve_surely(b, gram, atoms, l1, l1_neg, slacks[w], max_iter, z, slow, total)
        for j in range(n_atoms):
            codes[at[w], j] = z[j]


@compiled_wide
def _wanted(corr, start, warm, l1, l1_neg):
    """How many atoms the given codes have, or how many correlations exceed the penalty where all codes are zero."""
    count = 0
    for j in range(corr.size):
        count += start[j] != 0 if warm else corr[j] > l1 or corr[j] < -l1_neg
    return count


@compiled_wide
def _few(corr, gram, l1, l1_neg, slack, max_iter, warm, start, z, space, members, shape, room, total):
    """Solve a row whose active atoms are few into z; whether that went well. If not, z is where to go on from."""
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
