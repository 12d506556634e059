"""The slow and sure method for the rows that the fast ones leave, over few atoms or many.

The active set method of Lee, Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006) with one atom
exchanged at a time: never uphill, so it ends. The inverse of the Gram matrix on the active set is updated with each
exchange and built anew where a check by the Gram matrix itself finds it worn. An atom that depends on the active ones
enters by a slide along the null vector, which takes another atom out.
"""

import numpy as np

from ..compile import compiled_wide

_DEPENDENT = 1e-18  # squared sine of the angle to the span of the active atoms
_WEAR = 1e-4  # a diagonal element of the inverse that shrinks to less has lost too many digits
_TRIES = 3  # steps on one active set: one to solve, two to refine
_PATIENCE = 500  # exchanges before ties within rounding are left alone


@compiled_wide
def new_state(n_atoms, d, capacity):
    """Active atoms, their signs, the inverse on them; scratch: weights, remaining correlations, remainder, target;
    and, in one element, whether atoms were taken out of the inverse since it was built.
    """
    return (
        np.zeros(capacity, np.int64),
        np.zeros(capacity),
        np.zeros((capacity, capacity)),
        np.zeros(capacity),
        np.zeros(n_atoms),
        np.zeros(d),
        np.zeros(capacity),
        np.zeros(1),
    )


@compiled_wide
def add_objective_and_violation(corr, gram, l1, l1_neg, z, left, totals):
    """Add the row's objective, without its half square, and its violation, both from z and the Gram matrix."""
    for j in range(z.size):
        left[j] = corr[j]
    for i in range(z.size):
        code = z[i]
        if code != 0:
            for j in range(z.size):
                left[j] -= code * gram[i, j]
    for j in range(z.size):
        if z[j] != 0:
            totals[0] += l1 * abs(z[j]) - 0.5 * z[j] * (corr[j] + left[j])
            violation = abs(left[j] - (l1 if z[j] > 0 else -l1))
        else:
            violation = max(left[j] - l1, -left[j] - l1_neg)
        if not violation <= totals[1] and totals[1] == totals[1]:  # once NaN, always NaN
            totals[1] = violation


@compiled_wide
def solve_row(corr, gram, atoms, l1, l1_neg, slack, max_iter, z, state):
    """Solve one row from the codes z, in place; the number of exchanges."""
    members, sign, inverse, weights, left, _, target, wear = state
    wear[0] = 0
    count = np.int64(0)  # a plain 0 would be a type of its own, and everything below be compiled twice
    for j in range(z.size):
        if z[j] != 0:
            count = _enter(gram, atoms, j, 1.0 if z[j] > 0 else -1.0, z, state, count)
    steps, tries, known = 0, 0, False
    while steps < max_iter:
        steps += 1
        if steps == _PATIENCE:
            slack = max(slack, 1e-7 * l1)
        if tries > _TRIES and wear[0] > 0:
            _rebuild(gram, atoms, state, count)
            tries = 0
        if not known:
            _remaining(corr, gram, z, members, count, left)
            known = True
        residual = 0.0
        for a in range(count):
            weights[a] = left[members[a]] - l1 * sign[a]
            residual = max(residual, abs(weights[a]))
        if residual > 0.5 * slack and tries <= _TRIES:
            _newton(inverse, count, weights, members, z, target)
            blocked = _walk(members, sign, count, target, z)
            tries, known = tries + 1, False
            if blocked >= 0:
                count, tries = _leave(gram, atoms, blocked, z, state, count), 0
            continue
        entering, largest = np.int64(-1), slack
        for j in range(z.size):
            excess = max(left[j] - l1, -left[j] - l1_neg)
            if excess > largest and z[j] == 0:
                entering, largest = j, excess
        if entering < 0:
            break
        before = count
        count = _enter(gram, atoms, entering, 1.0 if left[entering] > 0 else -1.0, z, state, count)
        tries, known = 0, count == before + 1  # otherwise z has moved
    return steps


@compiled_wide
def _remaining(corr, gram, z, members, count, left):
    """Write ``corr - gram @ z`` to ``left``, for z that is zero but on the members."""
    for j in range(z.size):
        left[j] = corr[j]
    for a in range(count):
        code = z[members[a]]
        for j in range(z.size):
            left[j] -= code * gram[members[a], j]


@compiled_wide
def _newton(inverse, count, residual, members, z, target):
    """The codes that solve the normal equations on the active set, as a step from z: small steps lose no digits."""
    for a in range(count):
        target[a] = z[members[a]]
    for e in range(count):
        for a in range(count):
            target[a] += inverse[e, a] * residual[e]


@compiled_wide
def _walk(members, sign, count, target, z):
    """Move the active codes towards the target as far as signs allow; the place that stops it, or -1."""
    length, blocked = 1.0, -1
    for a in range(count):
        if target[a] * sign[a] <= 0:
            code = z[members[a]]
            part = code / (code - target[a]) if code * sign[a] > 0 else 0.0
            if part < length or blocked < 0:
                length, blocked = min(part, 1.0), a
    for a in range(count):
        code = z[members[a]]
        z[members[a]] = target[a] if blocked < 0 else code + length * (target[a] - code)
    return blocked


@compiled_wide
def _leave(gram, atoms, place, z, state, count):
    """Drop the active atom at that place: eliminate it from the inverse, move the last one there."""
    members, sign, inverse, _, _, _, _, wear = state
    z[members[place]] = 0.0
    last = count - 1
    members[place], sign[place] = members[last], sign[last]
    if place != last:
        for a in range(count):
            inverse[place, a], inverse[last, a] = inverse[last, a], inverse[place, a]
        for a in range(count):
            inverse[a, place], inverse[a, last] = inverse[a, last], inverse[a, place]
    wear[0], cancelled = 1, False
    pivot = 1.0 / inverse[last, last]
    for a in range(last):
        factor, before = inverse[a, last] * pivot, inverse[a, a]
        for e in range(last):
            inverse[a, e] -= factor * inverse[last, e]
        cancelled |= inverse[a, a] < _WEAR * before
    if cancelled:
        _rebuild(gram, atoms, state, last)
    return last


@compiled_wide
def _enter(gram, atoms, atom, direction, z, state, count):
    """Make the atom active, at its present code; the new number of active atoms."""
    members, sign, inverse, weights, _, remainder, target, _ = state
    while True:
        pivot = _project(gram, atoms, atom, members, inverse, count, weights, target, remainder)
        total = 1.0
        for a in range(count):
            total += abs(weights[a])
        if count < atoms.shape[1] and pivot > _DEPENDENT * gram[atom, atom] * total * total:
            break
        blocked = _slide(members, sign, count, weights, atom, direction, z)
        if blocked < 0:
            z[atom] = 0.0
            return count
        count = _leave(gram, atoms, blocked, z, state, count)
    _border(inverse, weights, count, pivot)
    members[count], sign[count] = atom, direction
    return count + 1


@compiled_wide
def _border(inverse, weights, count, pivot):
    """Inverse with one atom more, from its weights and the square of what remains of it."""
    scale = 1.0 / pivot
    for a in range(count):
        factor = weights[a] * scale
        for e in range(count):
            inverse[a, e] += factor * weights[e]
        inverse[a, count] = inverse[count, a] = -factor
    inverse[count, count] = scale


@compiled_wide
def _project(gram, atoms, atom, members, inverse, count, weights, product, remainder):
    """Weights of the active atoms in the projection of the atom; returns the square of what remains of it.

    The remainder is formed in the space of the rows: from the Gram matrix alone, float64 could not tell a small
    angle from none.
    """
    d = atoms.shape[1]
    for a in range(count):
        weights[a] = 0.0
        product[a] = gram[atom, members[a]]
    square = 0.0
    for turn in range(2):
        for e in range(count):
            for a in range(count):
                weights[a] += product[e] * inverse[e, a]
        for k in range(d):
            remainder[k] = atoms[atom, k]
        for a in range(count):
            for k in range(d):
                remainder[k] -= weights[a] * atoms[members[a], k]
        square = 0.0
        for k in range(d):
            square += remainder[k] * remainder[k]
        if turn == 1 or square > 1e-4 * gram[atom, atom]:
            break
        for a in range(count):
            product[a] = 0.0
            for k in range(d):
                product[a] += remainder[k] * atoms[members[a], k]
    return square


@compiled_wide
def _slide(members, sign, count, weights, atom, direction, z):
    """Move along (-weights, 1), L1 norm downwards, until a code is zero; its place, or -1 for the atom itself."""
    slope = direction
    for a in range(count):
        slope -= weights[a] * sign[a]
    way = -1.0 if slope > 0 else 1.0
    length, blocked = np.inf, -1
    if way * direction < 0:
        length = abs(z[atom])
    for a in range(count):
        speed = -way * weights[a]
        if speed * sign[a] < 0:
            part = max(-z[members[a]] / speed, 0.0)
            if part < length:
                length, blocked = part, a
    if length == np.inf:
        return -1
    for a in range(count):
        z[members[a]] -= length * way * weights[a]
    z[atom] += length * way
    return blocked


@compiled_wide
def _rebuild(gram, atoms, state, count):
    """The inverse on the same active set, from scratch."""
    members, _, inverse, weights, _, remainder, target, wear = state
    for a in range(count):
        pivot = _project(gram, atoms, members[a], members, inverse, a, weights, target, remainder)
        _border(inverse, weights, a, max(pivot, _DEPENDENT * gram[members[a], members[a]]))
    wear[0] = 0
