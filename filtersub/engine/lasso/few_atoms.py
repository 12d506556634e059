"""Exact LASSO of many rows over a few atoms: guess the support, exchange atoms by table, check.

Per row: (1) the codes given, or coordinate descent in float32 on 64 rows at once, yield a support with signs; (2) the
primal-dual active set method (Hintermueller, Ito, Kunisch, SIAM J. Optim. 13(3), 2002) exchanges all violators at
once, each step one product with the table of principal pivots; (3) where that cycles, atoms are exchanged one by one,
also by table; (4) a product with the Gram matrix checks the result; (5) a row that fails goes to the slow and sure
method, which needs no table. (2) to (5) in float64.
"""

import numpy as np

from ..compile import compiled, inlined
from ..coordinate_descent import BLOCK, guess_codes
from ..vectors import (
    absolute,
    bits_of,
    convert,
    full,
    fused,
    load,
    lowest,
    mask_of,
    on_stack,
    scalar,
    select,
    store,
    take,
)
from .exchange import exchange_singly, solve_on
from .fallback import add_objective_and_violation, new_state, solve_row

CHUNK = 16 * BLOCK  # rows; fixed, so that sums do not depend on the number of threads
EXCHANGES = 5  # steps of the primal-dual method before the slow and sure one
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom


@compiled
def solve_rows(rows, given, codes, totals, counter, limit, atoms, table, sure, guess, l1, l1_neg, tol, max_iter, lanes):
    """Fill ``codes`` (n, m) and ``totals`` (n_chunks, 2 * lanes + 4); ``given`` is empty for a cold start.

    Several threads may run this at once: ``counter`` hands each its next chunk of rows, ``limit`` of them at most.
    ``l1_neg`` is the penalty of negative codes. rows, given and codes are flat. ``sure`` are the Gram matrix and the
    atoms with two axes, for the rows that fail.
    """
    _, _, _, n_atoms, d = atoms
    width = len(lanes)
    n_rows = codes.size // n_atoms
    data, corr, energy = np.zeros(BLOCK * d), np.zeros(BLOCK * width), np.zeros(BLOCK)
    corr32, codes32 = np.zeros(n_atoms * BLOCK, np.float32), np.zeros(n_atoms * BLOCK, np.float32)
    start, solved = np.zeros(BLOCK * n_atoms + width), np.zeros(BLOCK * n_atoms + width)
    sets = np.zeros((2, BLOCK), np.int64)
    slow = (sure[0], sure[1], new_state(n_atoms, d, min(n_atoms, d) + 1), np.zeros(2))
    for _ in range(limit):
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
                    sets[0, r], sets[1, r] = _signs_of(start, r * n_atoms, l1_neg, lanes)
            else:
                _guess(corr, guess, l1, l1_neg, n_atoms, count, width, corr32, codes32, sets)
                for r in range(count):
                    for j in range(n_atoms):
                        start[r * n_atoms + j] = codes32[j * BLOCK + r]
            settings = l1, l1_neg, tol, max_iter
            total = totals[chunk]
            failed = _solve_block(count, corr, energy, sets, start, solved, total, atoms, table, settings, lanes)
            while failed:
                _solve_surely(lowest(failed), corr, energy, sets, start, solved, total, atoms, slow, settings, width)
                failed &= failed - 1
            convert(solved, 0, codes, begin * n_atoms, count * n_atoms)


@compiled
def _correlate_block(data, count, atoms, corr, energy, lanes):
    _, atoms_t, _, _, d = atoms
    for r in range(count):
        total, square = full(0.0, lanes), 0.0
        for k in range(d):
            value = scalar(data, r * d + k)
            total, square = fused(value, load(atoms_t, k * len(lanes), lanes), total), fused(value, value, square)
        store(corr, r * len(lanes), total)
        energy[r] = square


@compiled
def _guess(corr, guess, l1, l1_neg, n_atoms, count, width, corr32, codes32, sets):
    """Signs by coordinate descent from zero."""
    for k in range(codes32.size):
        codes32[k] = 0.0
    guess_codes(corr, width, guess, l1, l1_neg, n_atoms, count, corr32, codes32)
    for r in range(BLOCK):
        sets[0, r] = sets[1, r] = 0
    for j in range(n_atoms):
        for r in range(BLOCK):
            sets[0, r] |= np.int64(codes32[j * BLOCK + r] != 0) << j
            sets[1, r] |= np.int64(codes32[j * BLOCK + r] > 0) << j


@compiled
def _solve_block(count, corr, energy, sets, start, solved, totals, atoms, table, settings, lanes):
    """Solve a block of rows from the signs in ``sets``, or the codes in ``start``, into ``solved``: the rows that fail.

    What a row of them needs is in this one function: numba counts references to arrays wherever they are unpacked.
    The sure method is not: counting its arrays for each block would take a twentieth of the time at m = 6.
    """
    gram, _, norm, n_atoms, _ = atoms
    columns, dependent = table
    l1, l1_neg, tol, max_iter = settings
    width = len(lanes)
    everything = (1 << n_atoms) - 1
    y, z = np.zeros(width), np.zeros(width)
    square = worst = 0.0
    failed = np.int64(0)  # a bit a row
    sums = load(totals, 0, lanes), load(totals, width, lanes)
    for r in range(count):
        row = r * width
        square += energy[r]
        rounding = _RELATIVE * n_atoms * norm * np.sqrt(energy[r])
        worst = max(worst, rounding)
        slack = tol * l1 + rounding
        active, positive, failing = sets[0, r] & everything, sets[1, r] & everything, np.int64(1)
        for _ in range(EXCHANGES):
            if dependent[active]:
                break
            solve_on(columns, active, positive, corr, row, l1, n_atoms, y, lanes)
            next_active, next_positive = _exchanged(active, positive, corr, row, l1 + slack, -l1_neg - slack, y, lanes)
            if next_active == active and next_positive == positive:
                failing, sums = _check(gram, n_atoms, active, positive, corr, row, l1, l1_neg, slack, y, sums, lanes)
                break
            active, positive = next_active, next_positive
        if failing:
            active, positive = sets[0, r] & everything, sets[1, r] & everything
            for j in range(n_atoms):
                z[j] = start[r * n_atoms + j] if active >> j & 1 else 0.0
            active, positive, steps = exchange_singly(
                columns, dependent, corr, row, l1, l1_neg, slack, active, positive, n_atoms, max_iter, z, y, lanes
            )
            if steps > 0:
                failing, sums = _check(gram, n_atoms, active, positive, corr, row, l1, l1_neg, slack, y, sums, lanes)
                totals[2 * width + 3] = max(totals[2 * width + 3], steps)
        if failing:
            failed |= np.int64(1) << r
        store(solved, r * n_atoms, load(y, 0, lanes))  # what it writes too far, the next rows overwrite
    store(totals, 0, sums[0])
    store(totals, width, sums[1])
    totals[2 * width] += square
    totals[2 * width + 1] = max(totals[2 * width + 1], worst)
    return failed


@inlined
def _signs_of(codes, first, l1_neg, lanes):
    """Which atoms have a code in ``codes[first:]``, and one above zero; not where it is not finite, or forbidden."""
    values = load(codes, first, lanes)
    positives = bits_of((values > 0.0) & (values < np.inf))
    negatives = bits_of((values < 0.0) & (values > -np.inf)) if l1_neg < np.inf else 0
    return positives | negatives, positives


@inlined
def _exchanged(active, positive, corr, first, upper, lower, y, lanes):
    """The next (active, positive) of the primal-dual method: codes in y of the wrong sign leave, remaining correlations
    above the upper bound or below the lower one enter."""
    codes, on, above = load(y, 0, lanes), mask_of(active, lanes), mask_of(positive, lanes)
    remainder = load(corr, first, lanes) - codes
    positives = bits_of((on & above & (codes > 0.0)) | (~on & (remainder > upper)))
    negatives = bits_of((on & ~above & (codes < 0.0)) | (~on & (remainder < lower)))
    return positives | negatives, positives


@inlined
def _check(gram, n_atoms, active, positive, corr, first, l1, l1_neg, slack, y, sums, lanes):
    """Check the codes in y against the optimality conditions with the Gram matrix itself: the failing atoms, the sums.

    Clears the codes off the active set. Where every atom is within ``slack``, the violations and the objective
    (without the half square of the row) join ``sums``: lanes of running maxima, and lanes of running sums.
    """
    on, correlations = mask_of(active, lanes), load(corr, first, lanes)
    codes = select(on, load(y, 0, lanes), 0.0)
    store(y, 0, codes)
    weights = on_stack(-codes)
    remainder, odd = correlations, full(0.0, lanes)  # atoms in pairs, as in solve_on
    for atom in range(0, n_atoms, 2):
        remainder = fused(scalar(weights, atom), load(gram, atom * len(lanes), lanes), remainder)
        odd = fused(scalar(weights, atom + 1), load(gram, (atom + 1) * len(lanes), lanes), odd)
    remainder = remainder + odd
    over, under = remainder - l1, -remainder - l1_neg
    within = absolute(select(mask_of(positive, lanes), remainder, -remainder) - l1)
    violation = select(on, within, select(over > under, over, under))
    # negated, so that NaN counts as a failure
    failing = bits_of(~(violation <= slack)) & ((1 << n_atoms) - 1)
    passed = full(failing == 0, lanes)  # no branch, around which numba would count references to the arrays
    worst, value = sums
    worst = select(passed & (violation > worst), violation, worst)
    # 1/2 z'Gz - b'z + l |z| = |z| l - 1/2 z'(b + (b - Gz))
    smooth = -0.5 * codes * (correlations + remainder)
    return failing, (worst, select(passed, value + fused(l1, absolute(codes), smooth), value))


@compiled
def _solve_surely(r, corr, energy, sets, start, solved, totals, atoms, slow, settings, width):
    """Solve row r of a block by the slow and sure method, from the codes in ``start``."""
    _, _, norm, n_atoms, _ = atoms
    l1, l1_neg, tol, max_iter = settings
    gram, matrix, state, found = slow
    z, b = solved[r * n_atoms : (r + 1) * n_atoms], corr[r * width : r * width + n_atoms]
    for j in range(n_atoms):
        z[j] = start[r * n_atoms + j] if sets[0, r] >> j & 1 else 0.0
    slack = tol * l1 + _RELATIVE * n_atoms * norm * np.sqrt(energy[r])
    steps = solve_row(b, gram, matrix, l1, l1_neg, slack, max_iter, z, state)
    found[0] = found[1] = 0.0
    add_objective_and_violation(b, gram, l1, l1_neg, z, state[4], found)
    totals[0] = max(totals[0], found[1])
    totals[width] += found[0]
    totals[2 * width + 2] += 1
    totals[2 * width + 3] = max(totals[2 * width + 3], steps)


@compiled
def sum_up(totals, width):
    """(objective, largest violation, largest rounding, most steps, rows left to the slow method) over all chunks.

    totals (n_chunks, 2 width + 4): maxima and sums of the lanes, squared rows, rounding, slow rows, steps.
    """
    value = energy = worst = rounding = slow = steps = 0.0
    for chunk in range(totals.shape[0]):
        for lane in range(width):
            worst = max(worst, totals[chunk, lane])
            value += totals[chunk, width + lane]
        energy += totals[chunk, 2 * width]
        rounding = max(rounding, totals[chunk, 2 * width + 1])
        slow += totals[chunk, 2 * width + 2]
        steps = max(steps, totals[chunk, 2 * width + 3])
    return 0.5 * energy + value, worst, rounding, steps, slow
