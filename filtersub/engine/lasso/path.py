"""The LASSO's solution path: from the penalty at which every code is zero down to the one that was asked for.

Along the path codes and correlations are linear in the penalty between one change of the support and the next
(Osborne, Presnell and Turlach, IMA J. Numer. Anal. 20(3), 2000; Efron et al., Ann. Statist. 32(2), 2004). With many
more atoms than dimensions supports are small, and following it is faster than iterating at the final penalty.
"""

from __future__ import annotations

import numpy as np

from ..compile import compiled_wide
from .active_set import CODES, LEFT, SIGN, SPEED, clear, enter, leave, padded, times_inverse
from .active_set_vectors import add_multiple, combine, first_to_enter, first_to_vanish


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
