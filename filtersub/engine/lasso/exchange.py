"""Single exchanges by table, for the rows that exchanges of all violators at once do not solve.

The active set method of Lee, Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006): codes that agree
with their signs move towards the solution on the active set; what reaches zero leaves, and the atom that violates its
condition most enters. An atom that depends on the active ones takes one of them out by a slide along the null vector,
as in the simplex method: where atoms outnumber dimensions, nearly every row at a small penalty ends that way. Each step
is a product with the table of principal pivots, so digits are lost where atoms are nearly alike: who calls this checks
the result.

Sets of atoms are bit masks in an int64, atom j being bit j. Codes ``z`` agree in sign with the sets ``active`` and
``positive``; off the active set they are zero. The atoms of one row lie side by side in a vector, as long as ``lanes``.
"""

import numpy as np

from ..compile import compiled, inlined
from ..vectors import (
    bits_of,
    full,
    fused,
    largest,
    load,
    lowest,
    mask_of,
    on_stack,
    scalar,
    select,
    smallest,
    store,
    total_of,
)

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
            rest = _slide_along(columns, start, active, positive, z, lanes)
            if rest == active:
                break
            active = rest
            continue
        solve_on(columns, active, positive, corr, first, l1, n_atoms, y, lanes)
        wrong, entering = _wrong_and_entering(active, positive, corr, first, l1 + slack, -l1_neg - slack, y, lanes)
        if wrong:
            blocked = _walk_to(y, z, active, wrong, lanes)
            if blocked == 0:
                break
            active &= ~blocked
            continue
        if entering == 0:
            return active, positive & active, step + 1
        store(z, 0, select(mask_of(active, lanes), load(y, 0, lanes), 0.0))
        atom = lowest(entering)
        active |= 1 << atom
        positive = positive | (1 << atom) if corr[first + atom] > y[atom] else positive & ~(1 << atom)
    return active, positive, -1


@inlined
def solve_on(table, active, positive, corr, first, l1, n_atoms, y, lanes):
    """Write ``y = T (corr - l1 s)`` for a row with correlations ``corr[first:]`` and the signs s of the active atoms.

    T are the columns of the principal pivot of the active set: y has the codes on it, and ``gram @ codes`` off it. All
    atoms take part, with weight zero off the active set: a loop of one length needs no guess of its end. Where their
    number is odd, so does a column after the last one.
    """
    shifted = load(corr, first, lanes) - select(mask_of(positive, lanes), full(l1, lanes), -l1)
    weights = on_stack(select(mask_of(active, lanes), shifted, 0.0))
    start = active * n_atoms * len(lanes)
    even, odd = full(0.0, lanes), full(0.0, lanes)  # side by side: half the wait
    for atom in range(0, n_atoms, 2):
        place = start + atom * len(lanes)
        even = fused(scalar(weights, atom), load(table, place, lanes), even)
        odd = fused(scalar(weights, atom + 1), load(table, place + len(lanes), lanes), odd)
    store(y, 0, even + odd)


@inlined
def _wrong_and_entering(active, positive, corr, first, upper, lower, y, lanes):
    """Sets of the atoms whose codes in y have the wrong sign, and of the one whose remaining correlation exceeds
    ``upper``, or falls short of ``lower``, by most."""
    codes, on = load(y, 0, lanes), mask_of(active, lanes)
    above = mask_of(positive, lanes)
    agree = (above & (codes > 0.0)) | (~above & (codes < 0.0))
    remainder = load(corr, first, lanes) - codes
    over, under = remainder - upper, lower - remainder
    excess = select(on, 0.0, select(over > under, over, under))
    return bits_of(on & ~agree), bits_of((excess == largest(excess)) & (excess > 0.0))


@inlined
def _walk_to(y, z, active, wrong, lanes):
    """Move z towards y until the first of the atoms ``wrong``, whose signs differ there, reaches zero; all that do."""
    goal, codes, wrong_ones = load(y, 0, lanes), load(z, 0, lanes), mask_of(wrong, lanes)
    part = select(codes == 0.0, 0.0, codes / (codes - goal))
    part = select(wrong_ones, part, 1.0)
    length = smallest(part)
    blocked = wrong_ones & (part <= length)
    store(z, 0, select(mask_of(active, lanes) & ~blocked, fused(length, goal - codes, codes), 0.0))
    return bits_of(blocked)


@inlined
def _slide_along(table, start, active, positive, z, lanes):
    """Move z along the null vector of a dependent set, L1 norm downwards, until a code is zero: the set without it.

    Where the way down is flat within rounding, z stays, and the first atom will do. The set as it was where z is not
    a number.
    """
    on, above, codes = mask_of(active, lanes), mask_of(positive, lanes), load(z, 0, lanes)
    vector = select(on, load(table, start, lanes), 0.0)
    outward = select(above, vector, -vector)
    way = -1.0 if total_of(outward) > 0.0 else 1.0
    vector, outward = way * vector, way * outward
    part = select(outward < 0.0, select(above, codes, -codes) / -outward, np.inf)
    length = smallest(part)
    first = bits_of(on & (part == length))
    first &= -first
    if length == np.inf:
        length = 0.0
    # whole vectors: to load one, the processor would wait for a single element that was stored just before
    store(z, 0, select(mask_of(first, lanes), 0.0, fused(length, vector, codes)))
    return active & ~first
