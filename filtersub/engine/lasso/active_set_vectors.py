"""Vector instructions for the active sets of the wide LASSO: 16 float64 at a time, two AVX-512 registers or four.

Matrices are flat, with rows of ``stride`` elements; widths are multiples of ``LANES``. Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..vectors import F64, I32, I64, for_range, fused, load_scalar, load_vector, splat, store_vector, zeros

LANES = 16
_EVENT = types.Tuple((types.float64, types.int64))


@intrinsic
def combine(typingctx, matrix, first, stride, members, weights, weights_first, count, out, out_first, width):
    """``out[:width] = sum over e < count of weights[e] * row members[e] of the matrix``, each from its ``first``."""

    def codegen(context, builder, signature, args):
        def vector(k, state):
            column = builder.mul(k, I64(LANES))
            start = builder.add(args[1], column)

            def add(e, total):
                member = load_scalar(context, builder, signature, args, 3, e)
                weight = load_scalar(context, builder, signature, args, 4, builder.add(args[5], e))
                weight = splat(builder, weight, LANES)
                place = builder.add(builder.mul(member, args[2]), start)
                return [
                    fused(builder, weight, load_vector(context, builder, signature, args, 0, place, LANES), total[0])
                ]

            (total,) = for_range(builder, args[6], [zeros(LANES)], add)
            store_vector(context, builder, signature, args, 7, builder.add(args[8], column), total)
            return state

        _for_vectors(builder, args[9], [], vector)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(matrix, integer, integer, members, weights, integer, integer, out, integer, integer), codegen


@intrinsic
def add_multiple(typingctx, space, out, source, factor, width):
    """``space[out : out + width] += factor * space[source : source + width]``."""

    def codegen(context, builder, signature, args):
        factor = splat(builder, args[3], LANES)

        def vector(k, state):
            column = builder.mul(k, I64(LANES))
            place = builder.add(args[1], column)
            source = load_vector(context, builder, signature, args, 0, builder.add(args[2], column), LANES)
            total = fused(builder, factor, source, load_vector(context, builder, signature, args, 0, place, LANES))
            store_vector(context, builder, signature, args, 0, place, total)
            return state

        _for_vectors(builder, args[4], [], vector)
        return context.get_dummy_value()

    return types.none(space, types.int64, types.int64, types.float64, types.int64), codegen


@intrinsic
def first_to_enter(typingctx, space, corr, slope, width, upper, lower, longest):
    """When ``corr - t slope`` first reaches ``upper - t`` or ``-(lower - t)``: (t, atom); (longest, -1) if not before.

    Fractions are compared by their products, so that no lane divides. NaN never enters.
    """

    def codegen(context, builder, signature, args):
        one = splat(builder, F64(1.0), LANES)
        upper, lower = (splat(builder, args[a], LANES) for a in (4, 5))

        def vector(k, state):
            column = builder.mul(k, I64(LANES))
            corr, slope = (
                load_vector(context, builder, signature, args, 0, builder.add(args[a], column), LANES) for a in (1, 2)
            )
            index = splat(builder, k, LANES)
            state = _sooner(builder, builder.fsub(upper, corr), builder.fsub(one, slope), index, state)
            return _sooner(builder, builder.fadd(lower, corr), builder.fadd(one, slope), index, state)

        return _soonest(builder, args[3], args[6], vector)

    integer, real = types.int64, types.float64
    return _EVENT(space, integer, integer, integer, real, real, real), codegen


@intrinsic
def first_to_vanish(typingctx, space, codes, speed, sign, width, longest):
    """When ``codes + t speed`` first reaches zero from the side of its sign: (t, place), or (longest, -1)."""

    def codegen(context, builder, signature, args):
        def vector(k, state):
            column = builder.mul(k, I64(LANES))
            codes, speed, sign = (
                load_vector(context, builder, signature, args, 0, builder.add(args[a], column), LANES)
                for a in (1, 2, 3)
            )
            numerator, denominator = builder.fmul(codes, sign), builder.fneg(builder.fmul(speed, sign))
            return _sooner(builder, numerator, denominator, splat(builder, k, LANES), state)

        return _soonest(builder, args[4], args[5], vector)

    return _EVENT(space, *[types.int64] * 4, types.float64), codegen


@intrinsic
def furthest_out(typingctx, left, first, width, upper, lower, least):
    """By how much an element exceeds ``upper``, or falls below ``-lower``, at most: (excess, place); or (least, -1).

    NaN exceeds nothing.
    """

    def codegen(context, builder, signature, args):
        upper, lower = (splat(builder, args[a], LANES) for a in (3, 4))

        def vector(k, state):
            place = builder.add(args[1], builder.mul(k, I64(LANES)))
            left = load_vector(context, builder, signature, args, 0, place, LANES)
            for short in (builder.fsub(upper, left), builder.fadd(lower, left)):
                better = builder.fcmp_ordered("<", short, state[0])
                new = (short, splat(builder, k, LANES))
                state = [builder.select(better, *pair) for pair in zip(new, state, strict=True)]
            return state

        initial = [splat(builder, builder.fneg(args[5]), LANES), splat(builder, I64(-1), LANES)]
        return _least(builder, *_for_vectors(builder, args[2], initial, vector), negate=True)

    return _EVENT(left, *[types.int64] * 2, *[types.float64] * 3), codegen


def _for_vectors(builder, width, initial, vector):
    return for_range(builder, builder.udiv(width, I64(LANES)), initial, vector)


def _soonest(builder, width, longest, vector):
    """The event with the smallest fraction that the vectors leave, if below ``longest``."""
    initial = [splat(builder, longest, LANES), splat(builder, F64(1.0), LANES), splat(builder, I64(-1), LANES)]
    numerator, denominator, index = _for_vectors(builder, width, initial, vector)
    return _least(builder, builder.fdiv(numerator, denominator), index)


def _sooner(builder, numerator, denominator, index, state):
    """Replace the lanes of the state in which ``numerator / denominator`` is the smaller positive fraction."""
    zero = ir.Constant(numerator.type, None)
    # negative by rounding alone
    numerator = builder.select(builder.fcmp_ordered("<", numerator, zero), zero, numerator)
    better = builder.fcmp_ordered("<", builder.fmul(numerator, state[1]), builder.fmul(state[0], denominator))
    return [builder.select(better, new, old) for new, old in zip((numerator, denominator, index), state, strict=True)]


def _least(builder, values, index, negate=False):
    """The smallest value over the lanes, and its place ``LANES * index + lane``, -1 where the index is negative."""
    lanes = ir.Constant(index.type, list(range(LANES)))
    none = builder.icmp_signed("<", index, ir.Constant(index.type, None))
    place = builder.select(none, index, builder.add(builder.mul(index, splat(builder, I64(LANES), LANES)), lanes))
    width = LANES
    while width > 1:
        width //= 2
        (low, high), (low_place, high_place) = (_halves(builder, vector, width) for vector in (values, place))
        first = builder.fcmp_ordered("<=", low, high)
        values, place = builder.select(first, low, high), builder.select(first, low_place, high_place)
    value = builder.extract_element(values, I32(0))
    packed = ir.Constant(ir.LiteralStructType([F64, I64]), ir.Undefined)
    packed = builder.insert_value(packed, builder.fneg(value) if negate else value, 0)
    return builder.insert_value(packed, builder.extract_element(place, I32(0)), 1)


def _halves(builder, vector, width):
    undefined = ir.Constant(vector.type, ir.Undefined)
    for part in (range(width), range(width, 2 * width)):
        yield builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(I32, width), list(part)))
