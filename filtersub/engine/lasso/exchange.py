"""Single exchanges by table, for the rows that exchanges of all violators at once do not solve.

The active set method of Lee, Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006): codes that agree
with their signs move towards the solution on the active set; what reaches zero leaves, and the atom that violates its
condition most enters. An atom that depends on the active ones takes one of them out by a slide along the null vector,
as in the simplex method: where atoms outnumber dimensions, nearly every row at a small penalty ends that way. Each step
is a product with the table of principal pivots, so digits are lost where atoms are nearly alike: who calls this checks
the result.

Sets of atoms are bit masks, as in few_atoms_vectors. Codes ``z`` agree in sign with the sets ``active`` and
``positive``; off the active set they are zero.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import compiled
from ..vectors import F64, I32, I64, bits_of, fused, load_vector, lowest, mask_of, splat, store_vector, zeros
from .few_atoms_vectors import SETS, solved_by_table

_MOST = 48  # exchanges; what has not ended by then is going round in rounding


@compiled
def exchange_singly(columns, dependent, corr, first, l1, l1_neg, slack, active, positive, n_atoms, most, z, y, lanes):
    """From codes z to the solution in y: (active, positive, exchanges), the last one negative where it was not reached.

    z agrees with ``active`` and ``positive``, and is used up.
    """
    size = n_atoms * len(lanes)
    for step in range(min(most, _MOST)):
        start = active * size
        if dependent[active]:
            rest = slide_along(columns, start, active, positive, z, lanes)
            if rest == active:
                break
            active = rest
            continue
        wrong, entering = solve_on(
            columns, active, positive, corr, first, l1, l1 + slack, -l1_neg - slack, n_atoms, y, lanes
        )
        if wrong:
            blocked = walk_to(y, z, active, wrong, lanes)
            if blocked == 0:
                break
            active &= ~blocked
            continue
        if entering == 0:
            return active, positive & active, step + 1
        copy_active(y, z, active, lanes)
        atom = lowest(entering)
        active |= 1 << atom
        positive = positive | (1 << atom) if corr[first + atom] > y[atom] else positive & ~(1 << atom)
    return active, positive, -1


@intrinsic
def solve_on(typingctx, table, active, positive, corr, first, l1, upper, lower, n_atoms, out, lanes):
    """Codes that solve the normal equations on the active set: (atoms of the wrong sign, the atom to enter as a set).

    Writes ``y = T (corr - l1 s)`` like ``pivot_step``. The atom to enter is the one whose remaining correlation exceeds
    ``upper``, or falls short of ``lower``, by most.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[10].count
        active, positive, correlations, y = solved_by_table(context, builder, signature, args)
        positives, negatives = (builder.fcmp_ordered(sign, y, zeros(width)) for sign in "><")
        wrong = builder.and_(active, builder.not_(builder.select(positive, positives, negatives)))
        remainder = builder.fsub(correlations, y)
        over = builder.fsub(remainder, splat(builder, args[6], width))
        under = builder.fsub(splat(builder, args[7], width), remainder)
        excess = builder.select(builder.fcmp_ordered(">", over, under), over, under)
        excess = builder.select(active, zeros(width), excess)
        largest = _reduce(builder, excess, ">")
        most = builder.fcmp_ordered("==", excess, splat(builder, largest, width))
        most = builder.and_(most, builder.fcmp_ordered(">", excess, zeros(width)))
        return cgutils.pack_array(builder, [bits_of(builder, wrong), bits_of(builder, most)])

    integer, real = types.int64, types.float64
    return SETS(table, integer, integer, corr, integer, real, real, real, integer, out, lanes), codegen


@intrinsic
def walk_to(typingctx, y, z, active, wrong, lanes):
    """Move z towards y until the first of the atoms ``wrong``, whose signs differ there, reaches zero; all that do."""

    def codegen(context, builder, signature, args):
        width = signature.args[4].count
        active, wrong = mask_of(builder, args[2], width), mask_of(builder, args[3], width)
        y, z = (load_vector(context, builder, signature, args, a, I64(0), width) for a in (0, 1))
        zero, one = zeros(width), splat(builder, F64(1.0), width)
        part = builder.fdiv(z, builder.fsub(z, y))
        part = builder.select(builder.fcmp_ordered("==", z, zero), zero, part)
        part = builder.select(wrong, part, one)
        length = splat(builder, _reduce(builder, part, "<"), width)
        blocked = builder.and_(wrong, builder.fcmp_ordered("<=", part, length))
        moved = fused(builder, length, builder.fsub(y, z), z)
        moved = builder.select(builder.and_(active, builder.not_(blocked)), moved, zero)
        store_vector(context, builder, signature, args, 1, I64(0), moved)
        return bits_of(builder, blocked)

    return types.int64(y, z, types.int64, types.int64, lanes), codegen


@intrinsic
def slide_along(typingctx, table, start, active, positive, z, lanes):
    """Move z along the null vector of a dependent set, L1 norm downwards, until a code is zero: the set without it.

    Where the way down is flat within rounding, z stays, and the first atom will do. The set as it was where z is not
    a number.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[5].count
        active, positive = mask_of(builder, args[2], width), mask_of(builder, args[3], width)
        vector = load_vector(context, builder, signature, args, 0, args[1], width)
        z = load_vector(context, builder, signature, args, 4, I64(0), width)
        zero = zeros(width)
        infinity = splat(builder, F64(float("inf")), width)
        vector = builder.select(active, vector, zero)
        outward = builder.select(positive, vector, builder.fneg(vector))
        uphill = builder.fcmp_ordered(">", _total(builder, outward), F64(0.0))
        way = splat(builder, builder.select(uphill, F64(-1.0), F64(1.0)), width)
        vector, outward = builder.fmul(way, vector), builder.fmul(way, outward)
        size = builder.select(positive, z, builder.fneg(z))
        inward = builder.fcmp_ordered("<", outward, zero)
        part = builder.select(inward, builder.fdiv(size, builder.fneg(outward)), infinity)
        length = _reduce(builder, part, "<")
        first = bits_of(builder, builder.and_(active, builder.fcmp_ordered("==", part, splat(builder, length, width))))
        first = builder.and_(first, builder.neg(first))
        flat = builder.fcmp_ordered("==", length, F64(float("inf")))
        length = builder.select(flat, F64(0.0), length)
        moved = fused(builder, splat(builder, length, width), vector, z)
        # whole vectors: to load one, the processor would wait for a single element that was stored just before
        store_vector(
            context, builder, signature, args, 4, I64(0), builder.select(mask_of(builder, first, width), zero, moved)
        )
        return builder.and_(args[2], builder.not_(first))

    return types.int64(table, *[types.int64] * 3, z, lanes), codegen


def _reduce(builder, vector, sign):
    """The largest (">") or smallest ("<") element."""

    def better(one, other):
        return builder.select(builder.fcmp_ordered(sign, one, other), one, other)

    return _folded(builder, vector, better)


def _total(builder, vector):
    return _folded(builder, vector, builder.fadd)


def _folded(builder, vector, combine):
    width = vector.type.count
    while width > 1:
        width //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(I32, width), list(part)))
            for part in (range(width), range(width, 2 * width))
        )
        vector = combine(low, high)
    return builder.extract_element(vector, I32(0))


@intrinsic
def copy_active(typingctx, source, target, active, lanes):
    """``target[:] = source[:]`` on the active set, zero off it."""

    def codegen(context, builder, signature, args):
        width = signature.args[3].count
        values = load_vector(context, builder, signature, args, 0, I64(0), width)
        values = builder.select(mask_of(builder, args[2], width), values, zeros(width))
        store_vector(context, builder, signature, args, 1, I64(0), values)
        return context.get_dummy_value()

    return types.none(source, target, types.int64, lanes), codegen
