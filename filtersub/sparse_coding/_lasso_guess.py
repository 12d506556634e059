"""A first guess of the codes: coordinate descent in float32, on blocks of 64 rows at once."""

from __future__ import annotations

import numpy as np

from ._lasso_jit import compiled
from ._lasso_simd import BLOCK, descend_coordinate


@compiled
def guess_codes(corr, stride, guess, l1, down, n_atoms, count, corr32, codes32):
    """Improve ``codes32`` (n_atoms, BLOCK) flat, by the correlations ``corr[r * stride + j]`` of ``count`` rows."""
    gram32, inverse, sweeps = guess
    for j in range(n_atoms):
        for r in range(count):
            corr32[j * BLOCK + r] = corr[r * stride + j]
    for _ in range(sweeps):
        for j in range(n_atoms):
            descend_coordinate(gram32, j, n_atoms, inverse[j], corr32, codes32, np.float32(l1), np.float32(down))
