"""FISTA: accelerated proximal gradient for the LASSO, on any torch device.

Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J. Imaging
Sciences 2(1), 2009; gradient-based restart by O'Donoghue and Candes, Found. Comput. Math. 15, 2015.
"""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from ..errors import ConvergenceWarning
from .result import CodingResult, check_penalty, check_problem, kkt_violation

_CHECK_EVERY = 10  # the stopping test costs about as much as a step


def fista(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    max_iter: int = 2000,
    tol: float = 1e-5,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, by accelerated proximal gradient with restart per row.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``  (a sum, not divided by n_rows).

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d)
    atoms : Tensor of shape (n_atoms, d), dtype and device of rows; need not be unit norm
    l1_penalty : float >= 0; from ``max|rows @ atoms.T|`` upwards every code is zero
    max_iter : int, proximal steps at most
    tol : float, a row is solved when its KKT violation is below ``tol`` times the largest ``|rows @ atoms.T|`` (not
    below
        what the dtype can resolve); solved rows take no further part
    codes_init : Tensor of shape (n_rows, n_atoms), default zeros

    Raises FiltersubError (a ValueError) when shapes disagree (naming both) or l1_penalty < 0.
    Warns ConvergenceWarning when max_iter is spent above the tolerance.

    >>> fista(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    check_problem(rows, atoms, codes_init)
    check_penalty(l1_penalty)
    started = time.perf_counter()
    gram = atoms @ atoms.T
    correlations = rows @ atoms.T
    eps = torch.finfo(rows.dtype).eps
    step = 1.0 / max(float(torch.linalg.eigvalsh(gram.double())[-1]), eps)
    scale = float(correlations.abs().max()) if rows.numel() else 0.0
    tolerance = max(tol, 16 * eps) * max(scale, eps)
    energy = 0.5 * float(rows.double().square().sum())

    codes = torch.zeros_like(correlations) if codes_init is None else codes_init.clone()
    live = _unsolved(codes, gram, correlations, l1_penalty, tolerance)
    objective = [_objective(codes, gram, correlations, energy, l1_penalty)]
    iterations = 0
    state = _start(codes[live], correlations[live])
    while live.numel() and iterations < max_iter:
        steps = min(_CHECK_EVERY, max_iter - iterations)
        for _ in range(steps):
            state = _accelerated_step(state, gram, step, l1_penalty)
        iterations += steps
        codes[live] = state.codes
        objective.append(_objective(codes, gram, correlations, energy, l1_penalty))
        still = _unsolved(state.codes, gram, state.correlations, l1_penalty, tolerance)
        live, state = live[still], _State(*(part[still] for part in state))
    seconds = time.perf_counter() - started

    optimality = kkt_violation(rows, atoms, codes, l1_penalty)
    converged = live.numel() == 0
    if not converged:
        warnings.warn(
            f"fista stopped after {iterations} steps with {live.numel()} of {rows.shape[0]} rows above its tolerance "
            f"{tolerance:.1e} (largest KKT violation {optimality:.1e}); "
            "raise max_iter, or use solver 'lasso', which is exact",
            ConvergenceWarning,
            stacklevel=2,
        )
    return CodingResult(codes, tuple(objective), iterations, seconds, optimality, converged)


class _State(NamedTuple):
    """Of the rows that are not solved yet, each (n_live, n_atoms) but momentum (n_live, 1)."""

    codes: Tensor
    ahead: Tensor
    momentum: Tensor
    correlations: Tensor


def _start(codes: Tensor, correlations: Tensor) -> _State:
    return _State(codes, codes.clone(), torch.ones_like(codes[:, :1]), correlations)


def _accelerated_step(state: _State, gram: Tensor, step: float, l1_penalty: float) -> _State:
    codes, ahead, momentum, correlations = state
    proposal = softshrink(ahead - step * (ahead @ gram - correlations), step * l1_penalty)
    moved = proposal - codes
    # a row whose momentum points uphill starts its acceleration anew; the others keep theirs
    uphill = ((ahead - proposal) * moved).sum(1, keepdim=True) > 0
    momentum = torch.where(uphill, 1.0, momentum)
    following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
    return _State(proposal, proposal + ((momentum - 1) / following) * moved, following, correlations)


def _unsolved(codes: Tensor, gram: Tensor, correlations: Tensor, l1_penalty: float, tolerance: float) -> Tensor:
    """Indices of the rows whose KKT violation is above the tolerance."""
    gradient = codes @ gram - correlations
    on_support = (gradient + l1_penalty * codes.sign()).abs()
    violation = torch.where(codes != 0, on_support, (gradient.abs() - l1_penalty).clamp_min(0))
    return torch.nonzero(violation.amax(1) > tolerance)[:, 0]


def _objective(codes: Tensor, gram: Tensor, correlations: Tensor, energy: float, l1_penalty: float) -> float:
    smooth = float((codes * (0.5 * (codes @ gram) - correlations)).sum(dtype=torch.float64))
    return energy + smooth + l1_penalty * float(codes.abs().sum(dtype=torch.float64))
