"""Random coefficients: the control that says what sparse and principal coefficients are worth.

alpha has independent Gaussian entries, so it knows nothing of the kernels. It cannot reconstruct them either: the atoms
D are those of least squares, ``D = alpha^+ W``, and the relative error stays near 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..sparse_coding.linear import second_moment


def drawn_codes(rows: Tensor, n_atoms: int, seed: int) -> Tensor:
    """Random coefficients (n_rows, n_atoms) for a kernel matrix (n_rows, d), in its dtype.

    Their Frobenius norm is that of the principal coefficients of min(n_atoms, d) atoms, so that an update
    ``alpha x dD`` has about the size that it has with those, and one learning rate suits both. The seed and the shapes
    determine the entries (numpy's PCG64), whatever the layer is called: layers of one shape have the same ones up to
    their scale.
    """
    numbers = np.random.default_rng([seed, *rows.shape, n_atoms]).standard_normal((rows.shape[0], n_atoms))
    drawn = torch.from_numpy(numbers).to(rows.device)
    values = torch.linalg.eigvalsh(second_moment(rows)).clamp_min(0)  # rising
    return (drawn * (values[-n_atoms:].sum().sqrt() / drawn.norm())).to(rows.dtype)


def least_squares_atoms(rows: Tensor, codes: Tensor) -> Tensor:
    """D (n_atoms, d) that minimises ``||rows - codes D||_F``, solved in float64."""
    return torch.linalg.lstsq(codes.double(), rows.double()).solution.to(rows.dtype)
