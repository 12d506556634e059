"""Orthogonal pursuit of many rows, compiled: a partial Cholesky factorisation of the Gram matrix per row.

As Batch-OMP (Rubinstein, Zibulevsky and Elad, Technion CS-2008-08), but with the columns of the factor kept over all
atoms: the column of a chosen atom lowers all correlations at once, so that a step costs no triangular solve, and its
squares lower what is left of the squared norm of each atom, which the order recursive rule divides by.

``LANES`` atoms of one row at a time, in float64. Vectors address all arrays flat, by element; ``width``, the atoms
padded to whole vectors, is the distance between two rows of the Gram matrix and of the factor's columns.
"""

import numpy as np

from .compile import compiled, inlined
from .vectors import bits_of, convert, correlate, fused, largest, load, lowest, scalar, select, store

LANES = 16
_NEGLIGIBLE = 1e-24  # squared cosine between residual and atom, of the row's energy: rounding
_DEPENDENT = 1e-12  # squared sine of the angle between an atom and the span of the chosen ones
_DOUBT = 1e-8  # of the row's energy: nearer to the bound than this, the residual itself is formed
_REACHED = 1e-11  # of the row's norm: what rounding may leave above the bound
_ROUNDING = 1e-14  # of the row's norm: gradients that no refinement lowers
_REFINEMENTS = 2


@compiled
def solve_rows(rows, bounds, codes, outcomes, atoms, atoms_t, gram, inverse, limit, by_error, nonnegative, totals):
    """Codes of each row; ``outcomes`` (n, 3) gets squared residual, largest gradient, whether the bound is missed.

    ``totals`` (steps,) sums up what each step took off the squared residuals, its last place all later ones. A bound
    below zero is none. ``atoms_t`` (d, width), ``gram`` (n_atoms, width) and ``inverse`` (width,), one over the squared
    norms, are zero beyond the last atom; width is a multiple of LANES.
    """
    (n_atoms, d), width = atoms.shape, inverse.size
    corr, left_corr, rest = np.zeros(width), np.zeros(width), np.zeros(width)
    free, square, floor = np.zeros(width), np.zeros(width), np.zeros(width)
    for j in range(n_atoms):
        square[j] = gram[j, j]
        floor[j] = _DEPENDENT * gram[j, j]
    factor = new_factor(limit, width)
    columns, coefficients, members, _, _ = factor
    z, old, residual = np.zeros(limit + 1), np.zeros(limit + 1), np.zeros(d)
    for i in range(rows.shape[0]):
        energy = 0.0
        for k in range(d):
            energy = fused(scalar(rows, i * d + k), scalar(rows, i * d + k), energy)
        correlate_row(rows, i, atoms_t, corr)
        convert(corr, 0, left_corr, 0, width)
        bound = bounds[i]
        left, count = energy, 0
        _release(inverse, square, free, rest)
        for step in range(4 * n_atoms):
            if bound >= 0 and left <= bound * bound + _DOUBT * energy:
                back_substitute(factor, coefficients, count, z)
                if _remainder(rows, i, atoms, members, count, z, residual) <= bound * bound:
                    break
            best, before, entered = -1, left, False
            while count < limit and not entered:
                best = _best(left_corr, free, nonnegative, _NEGLIGIBLE * energy)
                if best < 0:
                    break
                if nonnegative:
                    back_substitute(factor, coefficients, count, old)
                entered = append_atom(gram, factor, count, best, left_corr, floor)
                free[best] = 0.0
            if not entered:
                break
            left -= coefficients[count] * coefficients[count]
            if by_error:
                _shrink(columns, count, rest, free, floor)
            count += 1
            if nonnegative:
                kept = _feasible(gram, factor, count, corr, left_corr, old, floor)
                if kept < count:
                    count, left = kept, energy
                    _release(inverse, square, free, rest)
                    for k in range(count):
                        left -= coefficients[k] * coefficients[k]
                        free[members[k]] = 0.0
                        if by_error:
                            _shrink(columns, k, rest, free, floor)
                    if before - left <= _NEGLIGIBLE * energy:  # rounding alone let the atom in
                        free[best] = 0.0
            totals[min(step, totals.size - 1)] += before - left
        back_substitute(factor, coefficients, count, z)
        gradient = _refine(gram, factor, count, corr, z, _ROUNDING * np.sqrt(energy), square)
        if left <= _DOUBT * energy:
            left = _remainder(rows, i, atoms, members, count, z, residual)
        for j in range(n_atoms):
            codes[i, j] = 0.0
        for k in range(count):
            codes[i, members[k]] = max(z[k], 0.0) if nonnegative else z[k]
        outcomes[i, 0], outcomes[i, 1] = left, gradient
        outcomes[i, 2] = 1.0 if bound >= 0 and np.sqrt(left) > bound + _REACHED * np.sqrt(energy) else 0.0


@inlined
def new_factor(limit, width):
    """The factor: columns over all atoms, coefficients of the row, chosen atoms, and room to work."""
    columns, members, work = np.zeros((limit + 1, width)), np.zeros(limit + 1, np.int64), np.zeros(width)
    return columns, np.zeros(limit + 1), members, work, np.zeros(limit + 1)


@inlined
def correlate_row(rows, i, atoms_t, corr):
    """Write the correlations of row i with all atoms."""
    d, width = atoms_t.shape
    for lane in range(0, width, LANES):
        store(corr, lane, correlate(rows, i * d, d, atoms_t, lane, width, LANES))


@inlined
def _release(inverse, square, free, rest):
    convert(inverse, 0, free, 0, inverse.size)
    convert(square, 0, rest, 0, inverse.size)


@inlined
def _best(correlations, free, nonnegative, negligible):
    """The atom with the largest ``correlations^2 * free``, of positive ones where asked; -1 where all are rounding."""
    best, top = -1, negligible
    for lane in range(0, free.size, LANES):
        values = load(correlations, lane, LANES)
        scores = values * values * load(free, lane, LANES)
        if nonnegative:
            scores = select(values > 0.0, scores, 0.0)
        score = largest(scores)
        if score > top:
            best, top = lane + lowest(bits_of(scores == score)), score
    return best


@inlined
def _shrink(columns, k, rest, free, floor):
    """``rest -= columns[k]^2``; ``free``, where not zero, becomes one over it, or zero at the floor."""
    for lane in range(0, free.size, LANES):
        column = load(columns, k * free.size + lane, LANES)
        left = fused(-column, column, load(rest, lane, LANES))
        store(rest, lane, left)
        keep = (load(free, lane, LANES) > 0.0) & (left > load(floor, lane, LANES))
        store(free, lane, select(keep, 1.0 / select(keep, left, 1.0), 0.0))


@inlined
def append_atom(gram, factor, count, atom, correlations, floor):
    """Factor with one atom more, correlations without its part; False where it depends on the chosen ones."""
    columns, coefficients, members, remaining, _ = factor
    width = floor.size
    for lane in range(0, width, LANES):
        rest = load(gram, atom * width + lane, LANES)
        for k in range(count):
            rest = fused(-scalar(columns, k * width + atom), load(columns, k * width + lane, LANES), rest)
        store(remaining, lane, rest)
    if remaining[atom] <= floor[atom]:
        return False
    scale = 1.0 / np.sqrt(remaining[atom])
    part = correlations[atom] * scale
    for lane in range(0, width, LANES):
        column = load(remaining, lane, LANES) * scale
        store(columns, count * width + lane, column)
        store(correlations, lane, fused(-part, column, load(correlations, lane, LANES)))
    coefficients[count], members[count] = part, atom
    return True


@inlined
def back_substitute(factor, right, count, z):
    """Solve ``L^T z = right``, L being the chosen rows of the columns."""
    columns, _, members, _, _ = factor
    for k in range(count - 1, -1, -1):
        total = right[k]
        for i in range(k + 1, count):
            total -= columns[k, members[i]] * z[i]
        z[k] = total / columns[k, members[k]]


@inlined
def _remainder(rows, i, atoms, members, count, z, residual):
    """The square of the residual, formed in the space of the rows."""
    total = 0.0
    for k in range(atoms.shape[1]):
        value = rows[i, k]
        for e in range(count):
            value -= z[e] * atoms[members[e], k]
        residual[k] = value
        total += value * value
    return total


@inlined
def _refine(gram, factor, count, corr, z, allowed, square):
    """Repeat the solve for what it left, where that is more than rounding; the largest gradient on the support."""
    columns, _, members, gradient, change = factor
    width, worst = gradient.size, 0.0
    for turn in range(_REFINEMENTS + 1):
        worst, fine = 0.0, True
        for lane in range(0, width, LANES):
            rest = load(corr, lane, LANES)
            for k in range(count):
                rest = fused(-z[k], load(gram, members[k] * width + lane, LANES), rest)
            store(gradient, lane, rest)
        for k in range(count):
            size = abs(gradient[members[k]])
            worst = max(worst, size)
            fine &= size * size <= allowed * allowed * square[members[k]]
        if fine or turn == _REFINEMENTS:
            break
        for k in range(count):
            total = gradient[members[k]]
            for e in range(k):
                total -= columns[e, members[k]] * change[e]
            change[k] = total / columns[k, members[k]]
        back_substitute(factor, change, count, change)
        for k in range(count):
            z[k] += change[k]
    return worst


@inlined
def _feasible(gram, factor, count, corr, correlations, old, floor):
    """Non-negative least squares on the chosen atoms, from ``old`` (Lawson and Hanson, 1974); how many stay."""
    _, coefficients, members, _, z = factor
    old[count - 1] = 0.0
    while count > 0:
        back_substitute(factor, coefficients, count, z)
        length, blocked = 1.0, -1
        for k in range(count):
            if z[k] <= 0:
                part = old[k] / (old[k] - z[k]) if old[k] > 0 else 0.0
                if blocked < 0 or part < length:
                    length, blocked = part, k
        if blocked < 0:
            break
        kept = 0
        for k in range(count):
            value = old[k] + length * (z[k] - old[k])
            if k != blocked and (value > 0 or z[k] > 0):
                members[kept], old[kept] = members[k], max(value, 0.0)
                kept += 1
        convert(corr, 0, correlations, 0, corr.size)
        count = 0
        for k in range(kept):
            if append_atom(gram, factor, count, members[k], correlations, floor):
                old[count] = old[k]
                count += 1
    return count
