"""Wide rows with many active atoms: coordinate descent, then all violators exchanged at once, by Cholesky.

The primal-dual active set method (Hintermueller, Ito, Kunisch, SIAM J. Optim. 13(3), 2002) from a good guess: where the
Gram matrix is not far from singular it ends within a few steps, each one factorisation.
"""

import numpy as np

from ..compile import compiled_wide
from .active_set import combine, furthest_out

_DEPENDENT = 1e-6  # squared sine of the angle to the span: anything doubtful is left to the slow and sure method
_EXCHANGES = 6


@compiled_wide
def new_factor(n_atoms, width, most):
    """members, their signs, the factor of their Gram matrix, residual, step, codes; by atom: signs, left, product."""
    return (
        np.zeros(most, np.int64),
        np.zeros(most),
        np.zeros((most, most)),
        np.zeros(most),
        np.zeros(most),
        np.zeros(most),
        np.zeros(n_atoms),
        np.zeros(width),
        np.zeros(width),
    )


@compiled_wide
def exchange(corr, gram, l1, l1_neg, slack, max_steps, z, state, totals):
    """Solve the row from the support and signs of z, in place; whether that went well, and then it is in the totals."""
    members, sign, factor, residual, _, codes, wanted, left, _ = state
    for j in range(z.size):
        wanted[j] = np.sign(z[j])
    for _ in range(min(_EXCHANGES, max_steps)):
        count = np.int64(0)  # a plain 0 would be a type of its own, and what it goes into be compiled twice
        for j in range(z.size):
            if wanted[j] != 0:
                if count == members.size:
                    return False
                members[count], sign[count], codes[count] = j, wanted[j], z[j]
                count += 1
        if not _factorise(gram, members, count, factor):
            return False
        unsolved = _solve(corr, gram, l1, slack, count, state)
        for j in range(z.size):
            z[j] = 0.0
        changed = False
        for e in range(count):
            left[members[e]] = np.nan
            if codes[e] * sign[e] > 0:
                z[members[e]] = codes[e]
            else:
                wanted[members[e]], changed = 0.0, True
        worst, _ = furthest_out(left, 0, left.size, l1, l1_neg, 0.0)
        if not changed and worst <= slack and unsolved <= slack:
            value = 0.0
            for e in range(count):
                value += codes[e] * (l1 * sign[e] - 0.5 * (corr[members[e]] + residual[e] + l1 * sign[e]))
            if value != value:  # NaN escapes every comparison before
                return False
            totals[0] += value
            totals[1] = max(totals[1], worst, unsolved)
            return True
        for j in range(z.size):
            if left[j] > l1 + slack:
                wanted[j] = 1.0
            elif left[j] < -l1_neg - slack:
                wanted[j] = -1.0
    return False


@compiled_wide
def _solve(corr, gram, l1, slack, count, state):
    """Solve for the codes on the members, and refine; the largest residual there, and ``left`` and ``residual`` set."""
    members, sign, factor, residual, step, codes, _, left, product = state
    unsolved = np.inf
    for turn in range(4):
        combine(gram, 0, left.size, members, codes, 0, count, product, 0, left.size)
        for j in range(left.size):
            left[j] = -product[j]
        for j in range(corr.size):
            left[j] += corr[j]
        unsolved = 0.0
        for e in range(count):
            residual[e] = left[members[e]] - l1 * sign[e]
            unsolved = max(unsolved, abs(residual[e]))
            step[e] = residual[e]
        if turn == 3 or unsolved <= 0.5 * slack:
            break
        _substitute(factor, count, step)
        for e in range(count):
            codes[e] += step[e]
    return unsolved


@compiled_wide
def _factorise(gram, members, count, factor):
    """Upper triangular U with U'U the Gram matrix on the members, its diagonal inverted; whether they are independent.

    Row by row, four earlier rows at a time: every inner loop runs along rows in memory.
    """
    for i in range(count):
        for j in range(i, count):
            factor[i, j] = gram[members[i], members[j]]
        p = 0
        while p + 4 <= i:
            u0, u1, u2, u3 = factor[p, i], factor[p + 1, i], factor[p + 2, i], factor[p + 3, i]
            for j in range(i, count):
                done = u0 * factor[p, j] + u1 * factor[p + 1, j] + u2 * factor[p + 2, j] + u3 * factor[p + 3, j]
                factor[i, j] -= done
            p += 4
        while p < i:
            u0 = factor[p, i]
            for j in range(i, count):
                factor[i, j] -= u0 * factor[p, j]
            p += 1
        pivot = factor[i, i]
        if not pivot > _DEPENDENT * gram[members[i], members[i]]:
            return False
        inverse = 1.0 / pivot**0.5
        factor[i, i] = inverse
        for j in range(i + 1, count):
            factor[i, j] *= inverse
    return True


@compiled_wide
def _substitute(factor, count, step):
    """Solve U'U x = step, in place."""
    for i in range(count):
        step[i] *= factor[i, i]
        for j in range(i + 1, count):
            step[j] -= step[i] * factor[i, j]
    for i in range(count - 1, -1, -1):
        total = step[i]
        for j in range(i + 1, count):
            total -= factor[i, j] * step[j]
        step[i] = total * factor[i, i]
