"""One exact solve on a guessed support, by Cholesky: most of the wide rows need no more."""

from __future__ import annotations

from numba import njit

# Sums may be reordered, which lets them use whole vectors; the same on any number of threads.
compiled_wide = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

_DEPENDENT = 1e-6  # squared sine of the angle to the span: anything doubtful is left to the active set method


@compiled_wide
def remaining(corr, gram, z, members, count, left):
    """Write ``corr - gram @ z`` to ``left``, for z that is zero but on the members."""
    for j in range(z.size):
        left[j] = corr[j]
    for a in range(count):
        code = z[members[a]]
        for j in range(z.size):
            left[j] -= code * gram[members[a], j]


@compiled_wide
def polish(corr, gram, d, l1, slack, z, state):
    """Solve for the codes with the support and the signs of z, in place; whether that is the solution of the row.

    z ends with those codes where they keep their signs, and as it was where they do not.
    """
    members, sign, factor, residual, left, _, step, _ = state
    count = 0
    for j in range(z.size):
        if z[j] != 0:
            if count == min(d, z.size):
                return False
            members[count], sign[count] = j, 1.0 if z[j] > 0 else -1.0
            count += 1
    if not _factorise(gram, members, count, factor):
        return False
    for turn in range(3):  # solve, then refine
        remaining(corr, gram, z, members, count, left)
        worst = 0.0
        for a in range(count):
            residual[a] = left[members[a]] - l1 * sign[a]
            worst = max(worst, abs(residual[a]))
        if turn > 0 and worst <= 0.5 * slack:
            break
        _substitute(factor, count, residual, step)
        for a in range(count):
            if (z[members[a]] + step[a]) * sign[a] <= 0:
                return False
        for a in range(count):
            z[members[a]] += step[a]
    for j in range(z.size):
        if abs(left[j]) > l1 + slack:
            return False
    return worst <= slack


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
def _substitute(factor, count, residual, step):
    """Solve U'U step = residual; the residual is overwritten."""
    for i in range(count):
        residual[i] *= factor[i, i]
        for j in range(i + 1, count):
            residual[j] -= residual[i] * factor[i, j]
    for i in range(count - 1, -1, -1):
        total = residual[i]
        for j in range(i + 1, count):
            total -= factor[i, j] * step[j]
        step[i] = total * factor[i, i]
