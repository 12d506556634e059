"""Vector instructions of one exchange at a time: ``len(lanes)`` float64, the atoms of one row side by side.

Codes ``z`` agree in sign with the sets ``active`` and ``positive``, bit masks as in ``_lasso_simd``; off the active set
they are zero.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._lasso_simd import _STATE, _bits, _fused, _load, _mask, _splat, _store, _sum_in_pairs, _zeros

_F64, _I64 = ir.DoubleType(), ir.IntType(64)


@intrinsic
def solve_on(typingctx, table, active, positive, corr, first, l1, above, below, n_atoms, out, lanes):
    """Codes that solve the normal equations on the active set: (atoms of the wrong sign, the atom to enter as a set).

    Writes ``y = T (corr - l1 s)`` like ``pivot_step``. The atom to enter is the one whose remaining correlation exceeds
    ``above``, or falls short of ``below``, by most.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[10].count
        active, positive = _mask(builder, args[1], width), _mask(builder, args[2], width)
        correlations = _load(context, builder, signature, args, 3, args[4], width)
        shift = builder.select(positive, _splat(builder, args[5], width), _splat(builder, builder.fneg(args[5]), width))
        shifted = builder.select(active, builder.fsub(correlations, shift), _zeros(width))
        shifted = cgutils.alloca_once_value(builder, shifted)
        start = builder.mul(builder.mul(args[1], args[8]), _I64(width))

        def term(atom, total):
            weight = builder.load(builder.gep(shifted, [atom], source_etype=_F64), typ=_F64)
            place = builder.add(start, builder.mul(atom, _I64(width)))
            values = _load(context, builder, signature, args, 0, place, width)
            return _fused(builder, _splat(builder, weight, width), values, total)

        y = _sum_in_pairs(builder, args[8], _zeros(width), term)
        _store(context, builder, signature, args, 9, _I64(0), y)
        up, down = (builder.fcmp_ordered(sign, y, _zeros(width)) for sign in "><")
        wrong = builder.and_(active, builder.not_(builder.select(positive, up, down)))
        remainder = builder.fsub(correlations, y)
        over = builder.fsub(remainder, _splat(builder, args[6], width))
        under = builder.fsub(_splat(builder, args[7], width), remainder)
        excess = builder.select(builder.fcmp_ordered(">", over, under), over, under)
        excess = builder.select(active, _zeros(width), excess)
        largest = _reduce(builder, excess, ">")
        most = builder.fcmp_ordered("==", excess, _splat(builder, largest, width))
        most = builder.and_(most, builder.fcmp_ordered(">", excess, _zeros(width)))
        return cgutils.pack_array(builder, [_bits(builder, wrong), _bits(builder, most)])

    integer, real = types.int64, types.float64
    return _STATE(table, integer, integer, corr, integer, real, real, real, integer, out, lanes), codegen


@intrinsic
def walk_to(typingctx, y, z, active, wrong, lanes):
    """Move z towards y until the first of the atoms ``wrong``, whose signs differ there, reaches zero; all that do."""

    def codegen(context, builder, signature, args):
        width = signature.args[4].count
        active, wrong = _mask(builder, args[2], width), _mask(builder, args[3], width)
        y, z = (_load(context, builder, signature, args, a, _I64(0), width) for a in (0, 1))
        zero, one = _zeros(width), _splat(builder, _F64(1.0), width)
        part = builder.fdiv(z, builder.fsub(z, y))
        part = builder.select(builder.fcmp_ordered("==", z, zero), zero, part)
        part = builder.select(wrong, part, one)
        length = _splat(builder, _reduce(builder, part, "<"), width)
        blocked = builder.and_(wrong, builder.fcmp_ordered("<=", part, length))
        moved = _fused(builder, length, builder.fsub(y, z), z)
        moved = builder.select(builder.and_(active, builder.not_(blocked)), moved, zero)
        _store(context, builder, signature, args, 1, _I64(0), moved)
        return _bits(builder, blocked)

    return types.int64(y, z, types.int64, types.int64, lanes), codegen


@intrinsic
def slide_along(typingctx, table, start, active, positive, z, lanes):
    """Move z along the null vector of a dependent set, L1 norm downwards, until a code is zero: the set without it.

    Where the way down is flat within rounding, z stays, and the first atom will do. The set as it was where z is not
    a number.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[5].count
        active, positive = _mask(builder, args[2], width), _mask(builder, args[3], width)
        vector = _load(context, builder, signature, args, 0, args[1], width)
        z = _load(context, builder, signature, args, 4, _I64(0), width)
        zero = _zeros(width)
        infinity = _splat(builder, _F64(float("inf")), width)
        vector = builder.select(active, vector, zero)
        outward = builder.select(positive, vector, builder.fneg(vector))
        uphill = builder.fcmp_ordered(">", _total(builder, outward), _F64(0.0))
        way = _splat(builder, builder.select(uphill, _F64(-1.0), _F64(1.0)), width)
        vector, outward = builder.fmul(way, vector), builder.fmul(way, outward)
        size = builder.select(positive, z, builder.fneg(z))
        inward = builder.fcmp_ordered("<", outward, zero)
        part = builder.select(inward, builder.fdiv(size, builder.fneg(outward)), infinity)
        length = _reduce(builder, part, "<")
        first = _bits(builder, builder.and_(active, builder.fcmp_ordered("==", part, _splat(builder, length, width))))
        first = builder.and_(first, builder.neg(first))
        flat = builder.fcmp_ordered("==", length, _F64(float("inf")))
        length = builder.select(flat, _F64(0.0), length)
        moved = _fused(builder, _splat(builder, length, width), vector, z)
        # whole vectors: to load one, the processor would wait for a single element that was stored just before
        _store(context, builder, signature, args, 4, _I64(0), builder.select(_mask(builder, first, width), zero, moved))
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
            builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(ir.IntType(32), width), list(part)))
            for part in (range(width), range(width, 2 * width))
        )
        vector = combine(low, high)
    return builder.extract_element(vector, ir.IntType(32)(0))


@intrinsic
def keep(typingctx, source, target, active, lanes):
    """``target[:] = source[:]`` on the active set, zero off it."""

    def codegen(context, builder, signature, args):
        width = signature.args[3].count
        values = _load(context, builder, signature, args, 0, _I64(0), width)
        values = builder.select(_mask(builder, args[2], width), values, _zeros(width))
        _store(context, builder, signature, args, 1, _I64(0), values)
        return context.get_dummy_value()

    return types.none(source, target, types.int64, lanes), codegen
