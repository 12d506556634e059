"""ISTA: proximal gradient for the LASSO, on any torch device; slower than FISTA, but its objective never rises.

Daubechies, Defrise and De Mol, "An iterative thresholding algorithm for linear inverse problems with a sparsity
constraint", Comm. Pure Appl. Math. 57(11), 2004.
"""

from __future__ import annotations

from torch import Tensor

from ._proximal import State, Step, descend
from .result import CodingResult


def ista(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    max_iter: int = 20_000,
    tol: float = 1e-5,
    nonnegative: bool = False,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, by iterated soft thresholding with the largest safe step.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``  (a sum, not divided by n_rows). Parameters,
    result, errors and warnings are those of ``fista``; steps cost less, but many more are needed.

    >>> import torch
    >>> ista(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    return descend("ista", _advance, rows, atoms, l1_penalty, max_iter, tol, nonnegative, codes_init)


def _advance(state: State, step: Step) -> State:
    codes = step.proposal(state)
    image = codes @ step.gram
    return state._replace(codes=codes, image=image, ahead=codes, ahead_image=image)
