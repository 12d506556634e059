"""FISTA: accelerated proximal gradient for the LASSO, on any torch device.

Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J. Imaging
Sciences 2(1), 2009; gradient-based restart by O'Donoghue and Candes, Found. Comput. Math. 15, 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._proximal import State, Step, descend
from .result import CodingResult


def fista(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    max_iter: int = 2000,
    tol: float = 1e-5,
    nonnegative: bool = False,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, by accelerated proximal gradient with restart per row.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``  (a sum, not divided by n_rows).

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d), float32 or float64
    atoms : Tensor of shape (n_atoms, d); need not be unit norm; taken to the dtype and device of the rows
    l1_penalty : float >= 0; from ``largest_penalty(rows, atoms)`` upwards every code is zero
    max_iter : int, proximal steps at most
    tol : float
        A row is solved when its KKT violation is below ``tol`` times the largest ``|rows @ atoms.T|`` (or what the
        dtype can resolve) and below 1 % of the penalty; solved rows take no further part. Looked at every ten steps.
        float32 rows whose 1 % is too small for float32 are coded in float64.
    nonnegative : bool, keep every code >= 0
    codes_init : Tensor of shape (n_rows, n_atoms), default zeros

    Returns a CodingResult whose ``objective`` has one entry for the start and one for each step.
    Raises FiltersubError (a ValueError) when shapes disagree (naming both) or l1_penalty < 0.
    Warns ConvergenceWarning when max_iter is spent above the tolerance, or the codes' dtype cannot hold it.

    >>> fista(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    return descend("fista", _advance, rows, atoms, l1_penalty, max_iter, tol, nonnegative, codes_init)


def _advance(state: State, step: Step) -> State:
    codes = step.proposal(state)
    image = codes @ step.gram
    moved = codes - state.codes
    # a row whose momentum points uphill starts its acceleration anew; the others keep theirs
    uphill = ((state.ahead - codes) * moved).sum(1, keepdim=True) > 0
    momentum = torch.where(uphill, 1.0, state.momentum)
    following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
    beyond = (momentum - 1) / following
    ahead, ahead_image = codes + beyond * moved, image + beyond * (image - state.image)
    return State(codes, image, ahead, ahead_image, following, state.correlations)
