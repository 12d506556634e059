"""What a LASSO over few atoms needs before its first row and after its last: one call each.

In numpy these were some forty calls. Each costs little in a loop, and twenty times as much in a process that has just
done something else, where the whole of a small layer takes no longer.
"""

from __future__ import annotations

import numpy as np

from ._lasso_jit import compiled


@compiled
def set_up(atoms, gram, atoms_t, off_diagonal, inverse):
    """The norm of the longest atom. Fills, from atoms (n_atoms, d):

    gram : (n_atoms + 1, lanes) and atoms_t (d, lanes), zero beyond lane n_atoms; the last row of gram is zero
    off_diagonal : float32, flat (n_atoms, n_atoms), the Gram matrix but for its diagonal
    inverse : float32 (n_atoms,), one over the diagonal, or zero
    """
    n_atoms, d = atoms.shape
    gram[:] = 0.0
    atoms_t[:] = 0.0
    longest = 0.0
    for i in range(n_atoms):
        for k in range(d):
            atoms_t[k, i] = atoms[i, k]
        for j in range(i + 1):
            product = 0.0
            for k in range(d):
                product += atoms[i, k] * atoms[j, k]
            gram[i, j] = gram[j, i] = product
            off_diagonal[i * n_atoms + j] = off_diagonal[j * n_atoms + i] = np.float32(product)
        square = gram[i, i]
        off_diagonal[i * n_atoms + i] = np.float32(0.0)
        inverse[i] = np.float32(1.0 / square) if square > 0 else np.float32(0.0)
        if not square <= longest:  # NaN stays
            longest = square
    return np.sqrt(longest)


@compiled
def sum_up(totals, width):
    """(objective, largest violation, largest rounding, most steps, rows left to the slow method) over all chunks.

    totals (n_chunks, 2 width + 4): maxima and sums of the lanes, squared rows, rounding, slow rows, steps.
    """
    value = energy = worst = rounding = slow = steps = 0.0
    for chunk in range(totals.shape[0]):
        for lane in range(width):
            worst = max(worst, totals[chunk, lane])
            value += totals[chunk, width + lane]
        energy += totals[chunk, 2 * width]
        rounding = max(rounding, totals[chunk, 2 * width + 1])
        slow += totals[chunk, 2 * width + 2]
        steps = max(steps, totals[chunk, 2 * width + 3])
    return 0.5 * energy + value, worst, rounding, steps, slow
