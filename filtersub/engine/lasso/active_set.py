"""The active atoms of one row: their codes, signs, and the inverse of their Gram matrix, kept as atoms come and go; and
the solution path that they follow.

All of it lies in one array ``space``, since numba counts references to every array that a function unpacks: vectors of
``room`` elements by place among the active atoms (signs, codes, how fast the codes move, two for scratch), of ``width``
elements by atom (what correlations are left, their slope), then the inverse. ``members`` are the active atoms, and
after ``room`` elements 0, 1, 2, ... ``shape`` is (room, width).

Along the path codes and correlations are linear in the penalty between one change of the support and the next
(Osborne, Presnell and Turlach, IMA J. Numer. Anal. 20(3), 2000; Efron et al., Ann. Statist. 32(2), 2004). With many
more atoms than dimensions supports are small, and following it is faster than iterating at the final penalty.

The vector instructions come first: 16 float64 at a time, two AVX-512 registers or four. Matrices are flat, with rows of
``stride`` elements; widths are multiples of ``LANES``. Nothing there checks bounds.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compile import compiled_wide
from ..vectors import F64, I32, I64, for_range, fused, load_scalar, load_vector, splat, store_vector, zeros

LANES = 16
_EVENT = types.Tuple((types.float64, types.int64))


_DOUBTFUL = 1e-8  # squared sine of the angle to the span; anything closer is left to the slow and sure method
_TRIES = 3  # Newton steps on one active set: one to solve, the others to refine
# The vectors in ``space``, by how many of ``room`` elements are before them; two of ``width`` elements follow
SIGN, CODES, SPEED, _WEIGHTS, _ROW, LEFT = range(6)


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


@compiled_wide
def padded(count):
    return (count + LANES - 1) // LANES * LANES


@compiled_wide
def new_active(n_atoms, most):
    """(space, members, shape) for at most so many active atoms."""
    width, room = padded(n_atoms), padded(most)
    members = np.zeros(2 * room, np.int64)
    for e in range(room):
        members[room + e] = e
    return np.zeros(LEFT * room + 2 * width + room * room), members, (room, width)


@compiled_wide
def clear(space, shape):
    for e in range(_WEIGHTS * shape[0]):
        space[e] = 0.0


@compiled_wide
def times_inverse(space, members, shape, source, target, count):
    """``target = inverse @ source``, both numbers of vectors by place."""
    room = shape[0]
    inverse = LEFT * room + 2 * shape[1]
    combine(space, inverse, room, members[room:], space, source * room, count, space, target * room, padded(count))


@compiled_wide
def enter(gram, atom, direction, code, space, members, shape, count):
    """Make the atom active; false, and nothing is changed, where it hardly differs from the span of the others."""
    room, width = shape
    weights, row, inverse, used = _WEIGHTS * room, _ROW * room, LEFT * room + 2 * width, padded(count)
    if count == room:
        return False
    for e in range(count):
        space[row + e] = gram[atom, members[e]]
    times_inverse(space, members, shape, _ROW, _WEIGHTS, count)
    pivot = gram[atom, atom]
    for e in range(count):
        pivot -= space[row + e] * space[weights + e]
    if not pivot > _DOUBTFUL * gram[atom, atom]:
        return False
    scale = 1.0 / pivot
    if count == used:  # the rows grow by another vector
        for k in range(used, used + LANES):
            space[weights + k] = 0.0
            for e in range(count):
                space[inverse + e * room + k] = 0.0
    space[weights + count] = -1.0
    for e in range(count):
        add_multiple(space, inverse + e * room, weights, scale * space[weights + e], padded(count + 1))
    last = inverse + count * room
    for k in range(padded(count + 1)):
        space[last + k] = -scale * space[weights + k]
    members[count], space[SIGN * room + count], space[CODES * room + count] = atom, direction, code
    return True


@compiled_wide
def leave(place, space, members, shape, count):
    """Drop the active atom at that place, and move the last one there; the number that is left."""
    room, width = shape
    weights, inverse, used, last = _WEIGHTS * room, LEFT * room + 2 * width, padded(count), count - 1
    start, end = inverse + place * room, inverse + last * room
    for k in range(used):
        space[weights + k] = space[start + k]
    pivot = -1.0 / space[weights + place]
    for e in range(count):
        add_multiple(space, inverse + e * room, weights, pivot * space[weights + e], used)
    for k in range(used):
        space[start + k] = space[end + k]
    for e in range(last):
        space[inverse + e * room + place] = space[inverse + e * room + last]
        space[inverse + e * room + last] = 0.0
    members[place] = members[last]
    for vector in range(_WEIGHTS):
        space[vector * room + place] = space[vector * room + last]
        space[vector * room + last] = 0.0
    return last


@compiled_wide
def settle(corr, gram, l1, l1_neg, slack, max_steps, space, members, shape, count, totals):
    """Exchange atoms one by one until all conditions hold; the number of active atoms, or -1 where that fails.

    The method of Lee et al. from any codes whose signs agree. At the end, objective and violation join the totals.
    """
    room, width = shape
    sign, codes, row, left, slope = SIGN * room, CODES * room, _ROW * room, LEFT * room, LEFT * room + width
    tries = 0
    for _ in range(max_steps):
        combine(gram, 0, width, members, space, codes, count, space, slope, width)
        for j in range(corr.size):
            space[left + j] = corr[j] - space[slope + j]
        unsolved = 0.0
        for e in range(count):
            residual = space[left + members[e]] - l1 * space[sign + e]
            unsolved = max(unsolved, abs(residual))
            space[row + e], space[left + members[e]] = residual, np.nan
        if unsolved > 0.5 * slack and tries <= _TRIES:
            times_inverse(space, members, shape, _ROW, SPEED, count)
            length, place = first_to_vanish(space, codes, SPEED * room, sign, padded(count), 1.0)
            add_multiple(space, codes, SPEED * room, length, padded(count))
            tries += 1
            if place >= 0:
                count, tries = leave(place, space, members, shape, count), 0
            continue
        _, atom = furthest_out(space, left, width, l1, l1_neg, slack)
        if atom < 0:
            worst, _ = furthest_out(space, left, width, l1, l1_neg, 0.0)
            return _judge(corr, l1, slack, max(worst, unsolved), unsolved, space, members, shape, count, totals)
        if not enter(gram, atom, 1.0 if space[left + atom] > 0 else -1.0, 0.0, space, members, shape, count):
            return -1
        count, tries = count + 1, 0
    return -1


@compiled_wide
def _judge(corr, l1, slack, worst, unsolved, space, members, shape, count, totals):
    sign, codes, row = SIGN * shape[0], CODES * shape[0], _ROW * shape[0]
    if not unsolved <= slack:
        return -1
    value = 0.0
    for e in range(count):
        if space[codes + e] * space[sign + e] < 0:
            return -1
        bound = l1 * space[sign + e]
        value += space[codes + e] * (bound - 0.5 * (corr[members[e]] + space[row + e] + bound))
    if value != value:  # NaN escapes every comparison before
        return -1
    totals[0] += value
    totals[1] = max(totals[1], worst)
    return count


@compiled_wide
def follow(corr, gram, l1, l1_neg, most, max_steps, space, members, shape):
    """Number of active atoms at l1, or minus that number, less one, where ``most`` did not suffice."""
    room, width = shape
    sign, codes, speed, left, slope = SIGN * room, CODES * room, SPEED * room, LEFT * room, LEFT * room + width
    clear(space, shape)
    penalty, atom, count = l1, np.int64(-1), np.int64(0)
    for j in range(width):
        space[left + j] = corr[j] if j < corr.size else np.nan
    for j in range(corr.size):
        size = abs(corr[j]) if l1_neg < np.inf else corr[j]
        if size > penalty:
            penalty, atom = size, np.int64(j)
    for _ in range(max_steps):
        if atom >= 0:
            if count == most:
                return -1 - count
            direction = 1.0 if space[left + atom] > 0 else -1.0
            # one that hardly differs from the active ones stays out: its correlation goes with theirs, up to rounding
            if enter(gram, atom, direction, 0.0, space, members, shape, count):
                count += 1
            space[left + atom] = np.nan
        if penalty <= l1:
            break
        used = padded(count)
        times_inverse(space, members, shape, SIGN, SPEED, count)
        combine(gram, 0, width, members, space, speed, count, space, slope, width)
        lower = penalty if l1_neg < np.inf else l1_neg
        length, atom = first_to_enter(space, left, slope, width, penalty, lower, penalty - l1)
        sooner, place = first_to_vanish(space, codes, speed, sign, used, length)
        if place >= 0:
            length, atom = sooner, np.int64(-1)
        add_multiple(space, codes, speed, length, used)
        if place < 0 and atom < 0:
            break
        penalty -= length
        add_multiple(space, left, slope, -length, width)
        if place >= 0:
            space[left + members[place]] = penalty * space[sign + place]
            count = leave(place, space, members, shape, count)
    return count
