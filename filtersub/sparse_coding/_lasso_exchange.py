"""Single exchanges by table, for the rows that exchanges of all violators at once do not solve.

The active set method of Lee, Battle, Raina and Ng ("Efficient sparse coding algorithms", NIPS 2006): codes that agree
with their signs move towards the solution on the active set; what reaches zero leaves, and the atom that violates its
condition most enters. An atom that depends on the active ones takes one of them out by a slide along the null vector,
as in the simplex method: where atoms outnumber dimensions, nearly every row at a small penalty ends that way. Each step
is a product with the table of principal pivots, so digits are lost where atoms are nearly alike: who calls this checks
the result.
"""

from __future__ import annotations

from ._lasso_jit import compiled
from ._lasso_simd import lowest
from ._lasso_slide_simd import keep, slide_along, solve_on, walk_to

_MOST = 48  # exchanges; what has not ended by then is going round in rounding


@compiled
def exchange_singly(columns, dependent, corr, first, l1, down, slack, active, positive, n_atoms, most, z, y, lanes):
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
            columns, active, positive, corr, first, l1, l1 + slack, -down - slack, n_atoms, y, lanes
        )
        if wrong:
            blocked = walk_to(y, z, active, wrong, lanes)
            if blocked == 0:
                break
            active &= ~blocked
            continue
        if entering == 0:
            return active, positive & active, step + 1
        keep(y, z, active, lanes)
        atom = lowest(entering)
        active |= 1 << atom
        positive = positive | (1 << atom) if corr[first + atom] > y[atom] else positive & ~(1 << atom)
    return active, positive, -1
