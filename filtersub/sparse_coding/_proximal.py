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
    atoms = atoms.to(rows)
    gram = atoms @ atoms.T
    correlations = rows @ atoms.T
    eps = torch.finfo(rows.dtype).eps
    length = 1.0 / max(float(torch.linalg.eigvalsh(gram.double())[-1]), torch.finfo(rows.dtype).tiny)
    scale = float(correlations.abs().max()) if correlations.numel() else 0.0
    tolerance = max(tol, 16 * eps) * scale
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
    seconds = time.perf_counter() - started

    optimality = kkt_violation(rows, atoms, codes, l1_penalty, nonnegative=nonnegative)
    if live.numel():
        warnings.warn(
            f"{name} stopped after {iterations} steps with {live.numel()} of {rows.shape[0]} rows above its tolerance "
            f"{tolerance:.1e} (largest KKT violation {optimality:.1e}); "
            "raise max_iter, or use solver 'lasso', which is exact",
            ConvergenceWarning,
            stacklevel=3,
        )
    return CodingResult(codes, tuple(objective), iterations, seconds, optimality, live.numel() == 0)


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
