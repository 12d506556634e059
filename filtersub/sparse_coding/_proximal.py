"""The loop that ISTA and FISTA share: proximal gradient steps on all unsolved rows at once, on any torch device."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from ..errors import ConvergenceWarning
from .result import CodingResult, check_penalty, check_problem, kkt_violation

_CHECK_EVERY = 10  # steps between two looks at which rows are solved, which costs about as much as a step
_SHARE_OF_PENALTY = 1e-2  # a KKT violation above this share of the penalty is no solution, however small the rows are
_ROUNDING = 4  # times the tolerance that the violation of the codes may be, once they are rounded to the rows' dtype


class State(NamedTuple):
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


class Step(NamedTuple):
    """What a proximal step needs to know beside the state."""

    gram: Tensor
    length: float
    l1_penalty: float
    nonnegative: bool

    def proposal(self, state: State) -> Tensor:
        """The proximal gradient step from ``ahead``."""
        moved = state.ahead - self.length * (state.ahead_image - state.correlations)
        threshold = self.length * self.l1_penalty
        return (moved - threshold).clamp_min_(0) if self.nonnegative else softshrink(moved, threshold)


def descend(
    name: str,
    advance: Callable[[State, Step], State],
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    max_iter: int,
    tol: float,
    nonnegative: bool,
    codes_init: Tensor | None,
) -> CodingResult:
    """Codes by repeating ``advance`` until each row is solved; ``name`` is the solver's, for its warning."""
    check_problem(rows, atoms, codes_init)
    check_penalty(l1_penalty)
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
    step = Step(gram, length, l1_penalty, nonnegative)
    energy = 0.5 * float(rows.square().sum(dtype=torch.float64))

    codes = torch.zeros_like(correlations) if codes_init is None else codes_init.to(rows, copy=True)
    if nonnegative:
        codes.clamp_min_(0)
    start, image = codes.clone(), codes @ gram
    state = State(start, image, start, image, torch.ones_like(codes[:, :1]), correlations)
    live = torch.arange(rows.shape[0], device=rows.device)
    objective = [energy + _objective(state, l1_penalty)]
    solved_objective = energy  # of the rows that take no further part
    iterations = 0
    while True:
        still = _unsolved(state, l1_penalty, tolerance, nonnegative)
        if still.numel() < live.numel():
            codes[live] = state.codes
            solved_objective += _objective(state, l1_penalty)
            live, state = live[still], State(*(part[still] for part in state))
            solved_objective -= _objective(state, l1_penalty)
        if live.numel() == 0 or iterations >= max_iter:
            break
        for _ in range(min(_CHECK_EVERY, max_iter - iterations)):
            state = advance(state, step)
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


def _unsolved(state: State, l1_penalty: float, tolerance: float, nonnegative: bool) -> Tensor:
    """Indices of the rows whose KKT violation is above the tolerance."""
    gradient = state.image - state.correlations
    on_support = (gradient + l1_penalty * state.codes.sign()).abs()
    off_support = (-gradient if nonnegative else gradient.abs()) - l1_penalty
    violation = torch.where(state.codes != 0, on_support, off_support)
    return torch.nonzero((violation > tolerance).any(1))[:, 0]


def _objective(state: State, l1_penalty: float) -> float:
    """Without the half square of the rows."""
    smooth = (state.codes * (0.5 * state.image - state.correlations)).sum(dtype=torch.float64)
    return float(smooth + l1_penalty * state.codes.abs().sum(dtype=torch.float64))
