"""Orthogonal pursuit of many rows, compiled: a partial Cholesky factorisation of the Gram matrix per row.

As Batch-OMP (Rubinstein, Zibulevsky and Elad, Technion CS-2008-08), but with the columns of the factor kept over all
atoms: the column of a chosen atom lowers all correlations at once, so that a step costs no triangular solve, and its
squares lower what is left of the squared norm of each atom, which the order recursive rule divides by.

The vector instructions come first: ``LANES`` atoms of one row at a time, in float64. All arrays are addressed flat, by
element; ``width``, the atoms padded to whole vectors, is the distance between two rows of the Gram matrix and of the
factor's columns. Nothing there checks bounds.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compile import compiled, inlined
from .vectors import F64, bits_of, for_range, fused, load_scalar, load_vector, splat, store_vector, zeros

LANES = 16
_BEST = types.Tuple((types.float64, types.int64))


_NEGLIGIBLE = 1e-24  # squared cosine between residual and atom, of the row's energy: rounding
_DEPENDENT = 1e-12  # squared sine of the angle between an atom and the span of the chosen ones
_DOUBT = 1e-8  # of the row's energy: nearer to the bound than this, the residual itself is formed
_REACHED = 1e-11  # of the row's norm: what rounding may leave above the bound
_ROUNDING = 1e-14  # of the row's norm: gradients that no refinement lowers
_REFINEMENTS = 2


@intrinsic
def correlate_lanes(typingctx, rows, first, count, atoms_t, lane, width, out, energy):
    """``out[lane:] = sum_k x_k atoms_t[k, lane:]`` for ``x = rows[first : first + count]``; returns ``sum_k x_k^2``."""

    def codegen(context, builder, signature, args):
        def add(k, state):
            total, square = state
            scalar = load_scalar(context, builder, signature, args, 0, builder.add(args[1], k))
            place = builder.add(builder.mul(k, args[5]), args[4])
            atoms = load_vector(context, builder, signature, args, 3, place, LANES)
            total = fused(builder, splat(builder, scalar, LANES), atoms, total)
            return [total, fused(builder, scalar, scalar, square)]

        total, square = for_range(builder, args[2], [zeros(LANES), F64(0.0)], add)
        store_vector(context, builder, signature, args, 6, args[4], total)
        return square

    kinds = (rows, types.int64, types.int64, atoms_t, types.int64, types.int64, out, types.float64)
    return types.float64(*kinds), codegen


@intrinsic
def best_of_lanes(typingctx, correlations, free, lane, nonnegative):
    """(score, atom) of the largest ``correlations^2 * free`` from ``lane`` on; only positive ones where asked."""

    def codegen(context, builder, signature, args):
        values = load_vector(context, builder, signature, args, 0, args[2], LANES)
        free = load_vector(context, builder, signature, args, 1, args[2], LANES)
        scores = builder.fmul(builder.fmul(values, values), free)
        above = builder.fcmp_ordered(">", values, zeros(LANES))
        both = builder.or_(above, builder.select(args[3], _mask_of(0), _mask_of(1)))
        scores = builder.select(both, scores, zeros(LANES))
        name = f"llvm.vector.reduce.fmax.v{LANES}f64"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(F64, [scores.type]), name)
        top = builder.call(reduce, [scores], fastmath=("nnan",))
        bits = bits_of(builder, builder.fcmp_ordered("==", scores, splat(builder, top, LANES)))
        atom = builder.add(args[2], builder.cttz(bits, ir.IntType(1)(0)))
        return context.make_tuple(builder, _BEST, [top, atom])

    return _BEST(correlations, free, types.int64, types.boolean), codegen


@intrinsic
def eliminate_lanes(typingctx, gram, columns, atom, count, lane, width, out):
    """``out[lane:] = gram[atom, lane:] - sum over k < count of columns[k, atom] columns[k, lane:]``."""

    def codegen(context, builder, signature, args):
        atom, count, lane, width = args[2:6]

        def subtract(k, state):
            start = builder.mul(k, width)
            weight = load_scalar(context, builder, signature, args, 1, builder.add(start, atom))
            column = load_vector(context, builder, signature, args, 1, builder.add(start, lane), LANES)
            return [fused(builder, splat(builder, builder.fneg(weight), LANES), column, state[0])]

        place = builder.add(builder.mul(atom, width), lane)
        initial = load_vector(context, builder, signature, args, 0, place, LANES)
        (rest,) = for_range(builder, count, [initial], subtract)
        store_vector(context, builder, signature, args, 6, lane, rest)
        return context.get_dummy_value()

    return types.none(gram, columns, *[types.int64] * 4, out), codegen


@intrinsic
def append_lanes(typingctx, remaining, scale, lane, columns, start, part, correlations):
    """``columns[start + lane:] = scale * remaining[lane:]``, and ``part`` times that off the correlations."""

    def codegen(context, builder, signature, args):
        remaining = load_vector(context, builder, signature, args, 0, args[2], LANES)
        column = builder.fmul(remaining, splat(builder, args[1], LANES))
        store_vector(context, builder, signature, args, 3, builder.add(args[4], args[2]), column)
        values = load_vector(context, builder, signature, args, 6, args[2], LANES)
        part = splat(builder, builder.fneg(args[5]), LANES)
        store_vector(context, builder, signature, args, 6, args[2], fused(builder, part, column, values))
        return context.get_dummy_value()

    kinds = (remaining, types.float64, types.int64, columns, types.int64, types.float64, correlations)
    return types.none(*kinds), codegen


@intrinsic
def shrink_lanes(typingctx, columns, start, lane, rest, free, floor):
    """``rest -= columns[start:]^2``; ``free``, where not zero, becomes one over it, or zero at the floor."""

    def codegen(context, builder, signature, args):
        column = load_vector(context, builder, signature, args, 0, builder.add(args[1], args[2]), LANES)
        rest = load_vector(context, builder, signature, args, 3, args[2], LANES)
        free = load_vector(context, builder, signature, args, 4, args[2], LANES)
        floor = load_vector(context, builder, signature, args, 5, args[2], LANES)
        rest = fused(builder, builder.fneg(column), column, rest)
        store_vector(context, builder, signature, args, 3, args[2], rest)
        keep = builder.and_(builder.fcmp_ordered(">", free, zeros(LANES)), builder.fcmp_ordered(">", rest, floor))
        inverse = builder.fdiv(
            splat(builder, F64(1.0), LANES), builder.select(keep, rest, splat(builder, F64(1.0), LANES))
        )
        store_vector(context, builder, signature, args, 4, args[2], builder.select(keep, inverse, zeros(LANES)))
        return context.get_dummy_value()

    return types.none(columns, types.int64, types.int64, rest, free, floor), codegen


@intrinsic
def subtract_lanes(typingctx, weight, source, start, lane, target):
    """``target[lane:] -= weight * source[start + lane:]``."""

    def codegen(context, builder, signature, args):
        vector = load_vector(context, builder, signature, args, 1, builder.add(args[2], args[3]), LANES)
        values = load_vector(context, builder, signature, args, 4, args[3], LANES)
        weight = splat(builder, builder.fneg(args[0]), LANES)
        store_vector(context, builder, signature, args, 4, args[3], fused(builder, weight, vector, values))
        return context.get_dummy_value()

    return types.none(types.float64, source, types.int64, types.int64, target), codegen


@intrinsic
def copy_lanes(typingctx, source, lane, target):
    """``target[lane:] = source[lane:]``."""

    def codegen(context, builder, signature, args):
        values = load_vector(context, builder, signature, args, 0, args[1], LANES)
        store_vector(context, builder, signature, args, 2, args[1], values)
        return context.get_dummy_value()

    return types.none(source, types.int64, target), codegen


def _mask_of(bit):
    kind = ir.VectorType(ir.IntType(1), LANES)
    return ir.Constant(kind, [bit] * LANES)


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
    # the factor: columns over all atoms, coefficients of the row, chosen atoms, and room to work
    factor = (
        np.zeros((limit + 1, width)),
        np.zeros(limit + 1),
        np.zeros(limit + 1, np.int64),
        np.zeros(width),
        np.zeros(limit + 1),
    )
    columns, coefficients, members, _, _ = factor
    z, old, residual = np.zeros(limit + 1), np.zeros(limit + 1), np.zeros(d)
    for i in range(rows.shape[0]):
        energy = 0.0
        for lane in range(0, width, LANES):
            energy = correlate_lanes(rows, i * d, d, atoms_t, lane, width, corr, energy)
            copy_lanes(corr, lane, left_corr)
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
                for lane in range(0, width, LANES):
                    shrink_lanes(columns, count * width, lane, rest, free, floor)
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
                            for lane in range(0, width, LANES):
                                shrink_lanes(columns, k * width, lane, rest, free, floor)
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
def _release(inverse, square, free, rest):
    for lane in range(0, inverse.size, LANES):
        copy_lanes(inverse, lane, free)
        copy_lanes(square, lane, rest)


@inlined
def _best(correlations, free, nonnegative, negligible):
    """The atom with the best score, or -1 where none is above rounding."""
    best, top = -1, negligible
    for lane in range(0, free.size, LANES):
        score, atom = best_of_lanes(correlations, free, lane, nonnegative)
        if score > top:
            best, top = atom, score
    return best


@inlined
def append_atom(gram, factor, count, atom, correlations, floor):
    """Factor with one atom more, correlations without its part; False where it depends on the chosen ones."""
    columns, coefficients, members, remaining, _ = factor
    width = floor.size
    for lane in range(0, width, LANES):
        eliminate_lanes(gram, columns, atom, count, lane, width, remaining)
    if remaining[atom] <= floor[atom]:
        return False
    scale = 1.0 / np.sqrt(remaining[atom])
    part = correlations[atom] * scale
    for lane in range(0, width, LANES):
        append_lanes(remaining, scale, lane, columns, count * width, part, correlations)
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
            copy_lanes(corr, lane, gradient)
            for k in range(count):
                subtract_lanes(z[k], gram, members[k] * width, lane, gradient)
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
        for lane in range(0, correlations.size, LANES):
            copy_lanes(corr, lane, correlations)
        count = 0
        for k in range(kept):
            if append_atom(gram, factor, count, members[k], correlations, floor):
                old[count] = old[k]
                count += 1
    return count
