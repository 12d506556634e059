"""Proximal gradient for the LASSO, ISTA and FISTA: steps on all unsolved rows at once, on any torch device.

ISTA: Daubechies, Defrise and De Mol, "An iterative thresholding algorithm for linear inverse problems with a sparsity
constraint", Comm. Pure Appl. Math. 57(11), 2004. FISTA: Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding
Algorithm for Linear Inverse Problems", SIAM J. Imaging Sciences 2(1), 2009; gradient-based restart by O'Donoghue and
Candes, Found. Comput. Math. 15, 2015.
"""

import time
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from ..errors import ConvergenceWarning
from .result import CodingResult, check_penalty, check_problem, check_steps, kkt_violation

_CHECK_EVERY = 10  # steps between two looks at which rows are solved, which costs about as much as a step
_SHARE_OF_PENALTY = 1e-2  # a KKT violation above this share of the penalty is no solution, however small the rows are
_ROUNDING = 4  # times the tolerance that the violation of the codes may be, once they are rounded to the rows' dtype


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
    rows, nonnegative, codes_init : see lasso
    atoms : Tensor of shape (n_atoms, d); need not be unit norm; taken to the dtype and device of the rows
    l1_penalty : float >= 0; from ``largest_penalty(rows, atoms)`` upwards every code is zero
    max_iter : int, proximal steps at most
    tol : float
        A row is solved when its KKT violation is below ``tol`` times the largest ``|rows @ atoms.T|`` (or what the
        dtype can resolve) and below 1 % of the penalty; solved rows take no further part. Looked at every ten steps.
        float32 rows whose 1 % is too small for float32 are coded in float64.

    Returns a CodingResult whose ``objective`` has one entry for the start and one for each step.
    Raises FiltersubError (a ValueError) when shapes disagree (naming both) or l1_penalty < 0.
    Warns ConvergenceWarning when max_iter is spent above the tolerance, or the codes' dtype cannot hold it.

    >>> fista(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    return _descend("fista", rows, atoms, l1_penalty, max_iter, tol, nonnegative, codes_init)


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

    >>> ista(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    return _descend("ista", rows, atoms, l1_penalty, max_iter, tol, nonnegative, codes_init)


class _State(NamedTuple):
    """Of the rows that are not solved yet; each (n_live, n_atoms), but momentum (n_live, 1).

    ``image`` is ``codes @ gram`` and ``ahead_image`` that of ``ahead``, the point that the next step starts from: kept,
    so that a step costs one product and the objective of its codes none.
    """

    codes: Tensor
    image: Tensor
    ahead: Tensor
    ahead_image: Tensor
    momentum: Tensor
    correlations: Tensor


class _Step(NamedTuple):
    """What a proximal step needs to know beside the state."""

    gram: Tensor
    length: float
    l1_penalty: float
    nonnegative: bool
    accelerated: bool

    def __call__(self, state: _State) -> _State:
        """The proximal gradient step from ``ahead``, and where the next one starts."""
        moved = state.ahead - self.length * (state.ahead_image - state.correlations)
        threshold = self.length * self.l1_penalty
        codes = (moved - threshold).clamp_min_(0) if self.nonnegative else softshrink(moved, threshold)
        image = codes @ self.gram
        if not self.accelerated:
            return state._replace(codes=codes, image=image, ahead=codes, ahead_image=image)
        moved = codes - state.codes
        # a row whose momentum points uphill starts its acceleration anew; the others keep theirs
        uphill = ((state.ahead - codes) * moved).sum(1, keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, state.momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        beyond = (momentum - 1) / following
        ahead, ahead_image = codes + beyond * moved, image + beyond * (image - state.image)
        return _State(codes, image, ahead, ahead_image, following, state.correlations)


def _descend(
    name: str,
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    max_iter: int,
    tol: float,
    nonnegative: bool,
    codes_init: Tensor | None,
) -> CodingResult:
    """Codes by repeated steps until each row is solved; ``name`` is the solver's."""
    check_problem(rows, atoms, codes_init)
    l1_penalty = check_penalty(l1_penalty)
    check_steps(max_iter, tol)
    started = time.perf_counter()
    given, given_atoms = rows, atoms.to(rows)
    scale = float((rows @ given_atoms.T).abs().max()) if rows.numel() else 0.0
    tolerance = max(tol, 16 * torch.finfo(rows.dtype).eps) * scale
    if 0 < _SHARE_OF_PENALTY * l1_penalty < tolerance:
        tolerance = _SHARE_OF_PENALTY * l1_penalty
        if tolerance < 16 * torch.finfo(rows.dtype).eps * scale:  # below what steps in float32 resolve
            rows = rows.double()
    atoms = given_atoms.to(rows)
    gram = atoms @ atoms.T
    correlations = rows @ atoms.T
    length = 1.0 / max(float(torch.linalg.eigvalsh(gram.double())[-1]), torch.finfo(rows.dtype).tiny)
    step = _Step(gram, length, l1_penalty, nonnegative, accelerated=name == "fista")
    energy = 0.5 * float(rows.square().sum(dtype=torch.float64))

    codes = torch.zeros_like(correlations) if codes_init is None else codes_init.to(rows, copy=True)
    if nonnegative:
        codes.clamp_min_(0)
    start, image = codes.clone(), codes @ gram
    state = _State(start, image, start, image, torch.ones_like(codes[:, :1]), correlations)
    live = torch.arange(rows.shape[0], device=rows.device)
    objective = [energy + _objective(state, l1_penalty)]
    solved_objective = energy  # of the rows that take no further part
    iterations = 0
    while True:
        still = _unsolved(state, l1_penalty, tolerance, nonnegative)
        if still.numel() < live.numel():
            codes[live] = state.codes
            solved_objective += _objective(state, l1_penalty)
            live, state = live[still], _State(*(part[still] for part in state))
            solved_objective -= _objective(state, l1_penalty)
        if live.numel() == 0 or iterations >= max_iter:
            break
        for _ in range(min(_CHECK_EVERY, max_iter - iterations)):
            state = step(state)
            objective.append(solved_objective + _objective(state, l1_penalty))
            iterations += 1
    codes[live] = state.codes
    codes = codes.to(given)
    seconds = time.perf_counter() - started

    optimality = kkt_violation(given, given_atoms, codes, l1_penalty, nonnegative=nonnegative)
    rounded = not live.numel() and optimality > _ROUNDING * tolerance
    if live.numel() or rounded:
        left = f"{live.numel()} of {rows.shape[0]} rows above its tolerance {tolerance:.1e}"
        fix = "raise max_iter, or use solver 'lasso', which is exact"
        if rounded:
            left = f"codes that {given.dtype} cannot hold to its tolerance {tolerance:.1e}"
            fix = "code the rows in float64, or raise the penalty"
        warnings.warn(
            f"{name} stopped after {iterations} steps with {left} (largest KKT violation {optimality:.1e}); {fix}",
            ConvergenceWarning,
            stacklevel=3,
        )
    return CodingResult(codes, tuple(objective), iterations, seconds, optimality, not live.numel() and not rounded)


def _unsolved(state: _State, l1_penalty: float, tolerance: float, nonnegative: bool) -> Tensor:
    """Indices of the rows whose KKT violation is above the tolerance."""
    gradient = state.image - state.correlations
    on_support = (gradient + l1_penalty * state.codes.sign()).abs()
    off_support = (-gradient if nonnegative else gradient.abs()) - l1_penalty
    violation = torch.where(state.codes != 0, on_support, off_support)
    return torch.nonzero((violation > tolerance).any(1))[:, 0]


def _objective(state: _State, l1_penalty: float) -> float:
    """Without the half square of the rows."""
    smooth = (state.codes * (0.5 * state.image - state.correlations)).sum(dtype=torch.float64)
    return float(smooth + l1_penalty * state.codes.abs().sum(dtype=torch.float64))
