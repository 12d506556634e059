"""Vector instructions for the LASSO over few atoms: ``len(lanes)`` float64, the atoms of one row side by side.

``lanes`` is a tuple of which only the length counts: a number that the compiler knows. Sets of atoms are bit masks in
an int64, atom j being bit j. Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..vectors import (
    F64,
    I64,
    absolute,
    bits_of,
    for_range,
    fused,
    load_scalar,
    load_vector,
    mask_of,
    splat,
    store_vector,
    sum_in_pairs,
    zeros,
)

SETS = types.UniTuple(types.int64, 2)  # two sets of atoms


@intrinsic
def correlate(typingctx, rows, first, count, atoms_t, out, out_first, lanes):
    """Write the correlations ``sum_k x_k atoms_t[k]`` of ``x = rows[first : first + count]``; return ``sum_k x_k^2``.

    ``atoms_t`` is flat, ``count`` vectors of lanes. Arrays of two axes count their elements row by row.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[6].count

        def add(k, state):
            total, energy = state
            scalar = load_scalar(context, builder, signature, args, 0, builder.add(args[1], k))
            start = builder.mul(k, I64(width))
            atoms = load_vector(context, builder, signature, args, 3, start, width)
            total = fused(builder, splat(builder, scalar, width), atoms, total)
            return [total, fused(builder, scalar, scalar, energy)]

        total, energy = for_range(builder, args[2], [zeros(width), F64(0.0)], add)
        store_vector(context, builder, signature, args, 4, args[5], total)
        return energy

    return types.float64(rows, types.int64, types.int64, atoms_t, out, types.int64, lanes), codegen


@intrinsic
def pivot_step(typingctx, table, active, positive, corr, first, l1, upper, lower, n_atoms, out, lanes):
    """One exchange of the primal-dual active set method, for a row with correlations ``corr[first:]``.

    With the signs s of the active atoms, writes ``y = T (corr - l1 s)``, where T are the columns of the principal
    pivot of the active set: the codes on the active set, and ``gram @ codes`` off it. Returns the next (active,
    positive): codes of the wrong sign leave, remaining correlations above the upper bound or below the lower one enter.
    All atoms take part, with weight zero off the active set: a loop of one length needs no guess of its end. Where
    their number is odd, so does a column after the last one.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[10].count
        active, positive, correlations, y = solved_by_table(context, builder, signature, args)
        zero = zeros(width)
        remainder = builder.fsub(correlations, y)
        stays_positive = builder.and_(positive, builder.fcmp_ordered(">", y, zero))
        stays_negative = builder.and_(builder.not_(positive), builder.fcmp_ordered("<", y, zero))
        enters_positive = builder.fcmp_ordered(">", remainder, splat(builder, args[6], width))
        enters_negative = builder.fcmp_ordered("<", remainder, splat(builder, args[7], width))
        positives = bits_of(builder, builder.select(active, stays_positive, enters_positive))
        negatives = bits_of(builder, builder.select(active, stays_negative, enters_negative))
        return cgutils.pack_array(builder, [builder.or_(positives, negatives), positives])

    integer, real = types.int64, types.float64
    return SETS(table, integer, integer, corr, integer, real, real, real, integer, out, lanes), codegen


@intrinsic
def check_row(typingctx, gram, n_atoms, active, positive, corr, first, l1, l1_neg, slack, codes, totals, lanes):
    """Check ``codes`` against the optimality conditions with the Gram matrix itself; returns the failing atoms.

    Clears the codes off the active set. Where every atom is within ``slack``, the violations and the objective
    (without the half square of the row) join ``totals``: lanes of running maxima, then lanes of running sums.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[11].count
        active, positive = mask_of(builder, args[2], width), mask_of(builder, args[3], width)
        correlations = load_vector(context, builder, signature, args, 4, args[5], width)
        codes = builder.select(active, load_vector(context, builder, signature, args, 9, I64(0), width), zeros(width))
        store_vector(context, builder, signature, args, 9, I64(0), codes)
        worst = load_vector(context, builder, signature, args, 10, I64(0), width)
        value = load_vector(context, builder, signature, args, 10, I64(width), width)
        l1, l1_neg, slack = (splat(builder, args[a], width) for a in (6, 7, 8))

        remainder = _minus_gram_times(context, builder, signature, args, (0, 1, 9, 4, 5), width)
        negated = builder.fneg(remainder)
        on = absolute(builder, builder.fsub(builder.select(positive, remainder, negated), l1))
        over, under = builder.fsub(remainder, l1), builder.fsub(negated, l1_neg)
        off = builder.select(builder.fcmp_ordered(">", over, under), over, under)
        violation = builder.select(active, on, off)
        # negated, so that NaN counts as a failure
        failing = builder.not_(builder.fcmp_ordered("<=", violation, slack))
        bits = builder.and_(bits_of(builder, failing), _all_atoms(builder, args[1]))
        passed = builder.icmp_unsigned("==", bits, I64(0))
        larger = builder.select(builder.fcmp_ordered(">", violation, worst), violation, worst)
        # 1/2 z'Gz - b'z + l |z| = |z| l - 1/2 z'(b + (b - Gz))
        smooth = builder.fmul(
            builder.fmul(splat(builder, F64(-0.5), width), codes), builder.fadd(correlations, remainder)
        )
        value_with = builder.fadd(value, fused(builder, l1, absolute(builder, codes), smooth))
        store_vector(context, builder, signature, args, 10, I64(0), builder.select(passed, larger, worst))
        store_vector(context, builder, signature, args, 10, I64(width), builder.select(passed, value_with, value))
        return bits

    integer, real = types.int64, types.float64
    return integer(gram, *[integer] * 3, corr, integer, real, real, real, codes, totals, lanes), codegen


@intrinsic
def signs_of(typingctx, codes, first, l1_neg, lanes):
    """Which atoms have a code in ``codes[first:]``, and one above zero; not where it is not finite, or forbidden."""

    def codegen(context, builder, signature, args):
        width = signature.args[3].count
        values = load_vector(context, builder, signature, args, 0, args[1], width)
        zero = ir.Constant(values.type, None)
        infinity = splat(builder, values.type.element(float("inf")), width)
        allowed = builder.fcmp_ordered("<", args[2], F64(float("inf")))
        positives = builder.and_(builder.fcmp_ordered(">", values, zero), builder.fcmp_ordered("<", values, infinity))
        negatives = builder.and_(
            builder.fcmp_ordered("<", values, zero), builder.fcmp_ordered(">", values, builder.fneg(infinity))
        )
        negatives = builder.select(allowed, bits_of(builder, negatives), I64(0))
        positives = bits_of(builder, positives)
        return cgutils.pack_array(builder, [builder.or_(positives, negatives), positives])

    return SETS(codes, types.int64, types.float64, lanes), codegen


def solved_by_table(context, builder, signature, args):
    """Of pivot_step and its like: masks of the active and positive atoms, correlations b, and ``y = T (b - l1 s)``."""
    width = signature.args[10].count
    active, positive = mask_of(builder, args[1], width), mask_of(builder, args[2], width)
    correlations = load_vector(context, builder, signature, args, 3, args[4], width)
    shift = builder.select(positive, splat(builder, args[5], width), splat(builder, builder.fneg(args[5]), width))
    shifted = builder.select(active, builder.fsub(correlations, shift), zeros(width))
    shifted = cgutils.alloca_once_value(builder, shifted)
    start = builder.mul(builder.mul(args[1], args[8]), I64(width))

    def term(atom, total):
        weight = builder.load(builder.gep(shifted, [atom], source_etype=F64), typ=F64)
        place = builder.add(start, builder.mul(atom, I64(width)))
        values = load_vector(context, builder, signature, args, 0, place, width)
        return fused(builder, splat(builder, weight, width), values, total)

    y = sum_in_pairs(builder, args[8], zeros(width), term)
    store_vector(context, builder, signature, args, 9, I64(0), y)
    return active, positive, correlations, y


def _minus_gram_times(context, builder, signature, args, which, width):
    """``corr - gram @ codes``; ``which`` says which arguments are gram, n_atoms, codes, corr and its first element."""
    gram, n_atoms, codes, corr, first = which

    def term(atom, total):
        code = builder.fneg(load_scalar(context, builder, signature, args, codes, atom))
        column = load_vector(context, builder, signature, args, gram, builder.mul(atom, I64(width)), width)
        return fused(builder, splat(builder, code, width), column, total)

    initial = load_vector(context, builder, signature, args, corr, args[first], width)
    return sum_in_pairs(builder, args[n_atoms], initial, term)


def _all_atoms(builder, n_atoms):
    return builder.sub(builder.shl(I64(1), n_atoms), I64(1))
