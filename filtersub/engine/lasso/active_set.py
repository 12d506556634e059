"""The active atoms of one row: their codes, signs, and the inverse of their Gram matrix, kept as atoms come and go; and
the solution path that they follow.

All of it lies in one array ``space``, since numba counts references to every array that a function unpacks: vectors of
``room`` elements by place among the active atoms (signs, codes, how fast the codes move, two for scratch), of ``width``
elements by atom (what correlations are left, their slope), then the inverse. ``members`` are the active atoms, and
after ``room`` elements 0, 1, 2, ... ``shape`` is (room, width).

Along the path codes and correlations are linear in the penalty between one change of the support and the next
(Osborne, Presnell and Turlach, IMA J. Numer. Anal. 20(3), 2000; Efron et al., Ann. Statist. 32(2), 2004). With many
more atoms than dimensions supports are small, and following it is faster than iterating at the final penalty.

16 float64 at a time, two AVX-512 registers or four. Matrices are flat, with rows of ``stride`` elements; widths are
multiples of ``LANES``.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compile import compiled_wide, inlined
from ..vectors import I32, full, fused, halves, load, scalar, select, store

LANES = 16
_EVENT = types.Tuple((types.float64, types.int64))
_DOUBTFUL = 1e-8  # squared sine of the angle to the span; anything closer is left to the slow and sure method
_TRIES = 3  # Newton steps on one active set: one to solve, the others to refine
# The vectors in ``space``, by how many of ``room`` elements are before them; two of ``width`` elements follow
SIGN, CODES, SPEED, _WEIGHTS, _ROW, LEFT = range(6)


@inlined
def combine(matrix, first, stride, members, weights, weights_first, count, out, out_first, width):
    """``out[:width] = sum over e < count of weights[e] * row members[e] of the matrix``, each from its ``first``."""
    for lane in range(0, width, LANES):
        total = full(0.0, LANES)
        for e in range(count):
            row = load(matrix, scalar(members, e) * stride + first + lane, LANES)
            total = fused(scalar(weights, weights_first + e), row, total)
        store(out, out_first + lane, total)


@inlined
def add_multiple(space, out, source, factor, width):
    """``space[out : out + width] += factor * space[source : source + width]``."""
    for lane in range(0, width, LANES):
        total = fused(factor, load(space, source + lane, LANES), load(space, out + lane, LANES))
        store(space, out + lane, total)


@inlined
def first_to_enter(space, corr, slope, width, upper, lower, longest):
    """When ``corr - t slope`` first reaches ``upper - t`` or ``-(lower - t)``: (t, atom); (longest, -1) if not before.

    Fractions are compared by their products, so that no lane divides. NaN never enters.
    """
    top, bottom, at = full(longest, LANES), full(1.0, LANES), full(-1, LANES)
    for lane in range(0, width, LANES):
        left, moving = load(space, corr + lane, LANES), load(space, slope + lane, LANES)
        top, bottom, at = _sooner(upper - left, 1.0 - moving, lane, top, bottom, at)
        top, bottom, at = _sooner(lower + left, 1.0 + moving, lane, top, bottom, at)
    return _least(top / bottom, at)


@inlined
def first_to_vanish(space, codes, speed, sign, width, longest):
    """When ``codes + t speed`` first reaches zero from the side of its sign: (t, place), or (longest, -1)."""
    top, bottom, at = full(longest, LANES), full(1.0, LANES), full(-1, LANES)
    for lane in range(0, width, LANES):
        side = load(space, sign + lane, LANES)
        outward = load(space, codes + lane, LANES) * side
        top, bottom, at = _sooner(outward, -(load(space, speed + lane, LANES) * side), lane, top, bottom, at)
    return _least(top / bottom, at)


@inlined
def _sooner(numerator, denominator, lane, top, bottom, at):
    """Replace the lanes of ``top / bottom`` in which ``numerator / denominator`` is the smaller positive fraction."""
    numerator = select(numerator < 0.0, 0.0, numerator)  # negative by rounding alone
    better = numerator * bottom < top * denominator
    return select(better, numerator, top), select(better, denominator, bottom), select(better, lane, at)


@inlined
def furthest_out(left, first, width, upper, lower, least):
    """By how much an element exceeds ``upper``, or falls below ``-lower``, at most: (excess, place); or (least, -1).

    NaN exceeds nothing.
    """
    short, at = full(-least, LANES), full(-1, LANES)
    for lane in range(0, width, LANES):
        here = load(left, first + lane, LANES)
        above, below = upper - here, lower + here
        at = select(above < short, lane, at)
        short = select(above < short, above, short)
        at = select(below < short, lane, at)
        short = select(below < short, below, short)
    value, place = _least(short, at)
    return -value, place


@intrinsic
def _least(typingctx, values, at):
    """The smallest value and its place, ``at`` plus the lane; -1 where that is negative."""

    def codegen(context, builder, signature, args):
        values, at = args
        none = builder.icmp_signed("<", at, ir.Constant(at.type, None))
        place = builder.select(none, at, builder.add(at, ir.Constant(at.type, list(range(LANES)))))
        while values.type.count > 1:
            (low, high), (low_place, high_place) = halves(builder, values), halves(builder, place)
            first = builder.fcmp_ordered("<=", low, high)
            values, place = builder.select(first, low, high), builder.select(first, low_place, high_place)
        found = (builder.extract_element(vector, I32(0)) for vector in (values, place))
        return context.make_tuple(builder, _EVENT, list(found))

    return _EVENT(values, at), codegen


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
