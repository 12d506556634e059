"""What linear codes of many short rows reach, in one pass over the rows."""

from __future__ import annotations

import numpy as np

from ._lasso_jit import compiled
from ._omp_simd import LANES, correlate_lanes, largest_lanes, subtract_lanes


@compiled
def judge_rows(rows, codes, atoms, atoms_t, l2_penalty, totals):
    """``totals`` gets the squared residuals, the squared codes and the largest gradient.

    atoms_t : (d, width); atoms : (n_atoms, length); zero beyond the last atom or dimension; width and length are
    multiples of LANES. The codes are judged as they are stored, rounded to their dtype.
    """
    (d, width), length, n_atoms = atoms_t.shape, atoms.shape[1], codes.shape[1]
    x, fit, c, gradient = np.zeros(length), np.zeros(length), np.zeros(width), np.zeros(width)
    largest, residuals, squares = np.zeros(width), 0.0, 0.0
    for i in range(rows.shape[0]):
        for k in range(d):
            x[k] = rows[i, k]
        for j in range(n_atoms):
            c[j] = codes[i, j]
        square = 0.0
        for lane in range(0, length, LANES):
            square = correlate_lanes(c, 0, n_atoms, atoms, lane, length, fit, 0.0)
            subtract_lanes(1.0, fit, 0, lane, x)
        squares += square
        left = 0.0
        for lane in range(0, width, LANES):
            left = correlate_lanes(x, 0, d, atoms_t, lane, width, gradient, 0.0)
            if l2_penalty > 0:
                subtract_lanes(l2_penalty, c, 0, lane, gradient)
            largest_lanes(gradient, lane, largest)
        residuals += left
    totals[0], totals[1], totals[2] = residuals, squares, largest.max()
