"""Where a row's LASSO path meets a bound on its residual, if that is on the piece of the path it is on now."""

import numpy as np

from ..compile import compiled
from ..pursuit import append_atom, back_substitute, correlate_row, new_factor
from ..vectors import convert

DONE, PENALTY, RESIDUAL, VIOLATION = range(4)  # columns of what is found of each row
_DEPENDENT = 1e-13
_WRONG = 1e-10  # of the penalty at most: violations of the optimality conditions
_ROUNDING = 1e-13  # of the norms of row and atom


@compiled
def close_rows(rows, penalties, bounds, codes, found, closed, atoms, atoms_t, gram, nonnegative):
    """From exact ``codes`` at the row's penalty: the codes on the same piece of the path at which the bound is met.

    On a piece, the support S and its signs s fixed, ``z_S = a - l b`` with ``G_SS a = D_S x``, ``G_SS b = s``, and the
    squared residual is ``||x - a D_S||^2 + l^2 s b``. ``found`` gets whether the codes in ``closed`` are optimal
    there, that penalty (NaN where the piece cannot meet the bound), the residual norm at ``codes``, and the violation
    of the optimality conditions. A bound below zero asks for the end of the path, l = 0.
    """
    (n_atoms, d), width = atoms.shape, gram.shape[1]
    limit = min(n_atoms, d)
    corr, scratch, floor = np.zeros(width), np.zeros(width), np.zeros(width)
    for j in range(n_atoms):
        floor[j] = _DEPENDENT * gram[j, j]
    factor = new_factor(limit, width)
    columns, coefficients, members, _, _ = factor
    a, b, signs = np.zeros(limit + 1), np.zeros(limit + 1), np.zeros(limit + 1)
    still, moving = np.zeros(d), np.zeros(d)
    for i in range(rows.shape[0]):
        energy, now = 0.0, 0.0
        for k in range(d):
            value = rows[i, k]
            energy += value * value
            for j in range(n_atoms):
                value -= codes[i, j] * atoms[j, k]
            now += value * value
        correlate_row(rows, i, atoms_t, corr)
        convert(corr, 0, scratch, 0, width)
        found[i, DONE], found[i, PENALTY] = 0.0, np.nan
        found[i, RESIDUAL], found[i, VIOLATION] = np.sqrt(now), np.inf
        count, independent = 0, True
        for j in range(n_atoms):
            if codes[i, j] != 0 and independent:
                independent = count < limit and append_atom(gram, factor, count, j, scratch, floor)
                if independent:
                    signs[count] = np.sign(codes[i, j])
                    count += 1
        if not independent:
            continue
        for k in range(count):
            total = signs[k]
            for e in range(k):
                total -= columns[e, members[k]] * b[e]
            b[k] = total / columns[k, members[k]]
        back_substitute(factor, b, count, b)
        back_substitute(factor, coefficients, count, a)
        rest, slope = 0.0, 0.0
        for k in range(d):
            still[k], moving[k] = rows[i, k], 0.0
            for e in range(count):
                still[k] -= a[e] * atoms[members[e], k]
                moving[k] += b[e] * atoms[members[e], k]
            rest += still[k] * still[k]
            slope += moving[k] * moving[k]
        penalty = 0.0
        if bounds[i] >= 0:
            if slope == 0 or bounds[i] * bounds[i] < rest:
                continue
            penalty = np.sqrt((bounds[i] * bounds[i] - rest) / slope)
        found[i, PENALTY] = penalty
        for j in range(n_atoms):
            closed[i, j] = 0.0
        agree = True
        for k in range(count):
            value = a[k] - penalty * b[k]
            if value * signs[k] < 0:
                agree = False
                break
            closed[i, members[k]] = value
        if not agree:
            continue
        worst, reach = 0.0, 0.0
        for j in range(n_atoms):
            gradient = 0.0
            for k in range(d):
                gradient += (still[k] + penalty * moving[k]) * atoms[j, k]
            if closed[i, j] != 0:
                violation = abs(gradient - penalty * np.sign(closed[i, j]))
            else:
                violation = max((gradient if nonnegative else abs(gradient)) - penalty, 0.0)
            worst, reach = max(worst, violation), max(reach, gram[j, j])
        found[i, VIOLATION] = worst
        if worst <= _WRONG * penalty + _ROUNDING * np.sqrt(energy * reach):
            found[i, DONE] = 1.0
