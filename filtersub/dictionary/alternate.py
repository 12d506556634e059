"""The alternation: code, move the atoms, extrapolate; never uphill.

With the codes made for them, the atoms follow a fixed-point iteration that crawls where many dictionaries do almost
as well. Nesterov's extrapolation of the atoms (with the usual sequence of weights, atoms back on the sphere) takes four
to ten times fewer rounds; where it would raise the objective the round is taken back, and the sequence starts anew
(the restart of O'Donoghue and Candes, Found. Comput. Math. 15, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..sparse_coding import CodingResult
from .atoms_update import moved_atoms, worst_reconstructed
from .statistics import Statistics

MAX_ROUNDS, TOL = 1000, 1e-5  # defaults of learn_dictionary and of every recipe
WINDOW = 5  # rounds over which the decrease is judged: single ones are small where the extrapolation starts anew
_PATIENT_SWEEPS = 64  # to get below the last objective after a round that was taken back
_REPLACEMENTS = 10  # rounds that may replace dead atoms
_LOOKS = frozenset({8, 32, 128, 512})  # rounds after which inexact codes are compared with exact ones
_FAR_BEHIND = 0.02  # relative cost of inexact codes that the rounds will not make up for
_BEHIND = 10  # times tol: the same, of codes at rest
_LEAST = 1e-5  # but not below what float32 tells apart


class Coder(Protocol):
    """Rows with codes that a round makes (Coding) or improves (Descent)."""

    exact: bool
    effort: int
    rounding: float
    rows: Tensor
    codes: Tensor
    coding: CodingResult | None

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics: ...

    def refine(self, atoms: np.ndarray) -> Statistics: ...

    def increase_effort(self, steps: int) -> None: ...

    def accept(self) -> None: ...


@dataclass(frozen=True)
class Stop:
    """When to stop: at most so many rounds, or at a relative decrease below tol a round; and who is told."""

    max_rounds: int
    tol: float
    on_round: Callable[[int, float], None] | None = None

    def tell(self, number: int, objective: float) -> None:
        if self.on_round is not None:
            self.on_round(number, objective)

    def reason(self, history: list[float], floor: float) -> str | None:
        """Why to stop after this history, if there is a reason; objectives up to the floor are rounding."""
        if history[-1] <= floor:
            return "the objective is zero within rounding"
        if len(history) > WINDOW and history[-1 - WINDOW] - history[-1] <= WINDOW * self.tol * history[-1 - WINDOW]:
            return f"the objective fell by less than {self.tol:.2g} of itself a round"
        return None


@dataclass(frozen=True)
class Alternation:
    """Atoms, the objective after each round, why it stopped, whether at rest, rounds; the codes in full, if known."""

    atoms: np.ndarray
    history: list[float]
    stopped: str
    converged: bool
    rounds: int = 0
    coding: CodingResult | None = None


def alternate(coder: Coder, atoms: np.ndarray, stop: Stop, l1_penalty: float) -> Alternation:
    """Rounds of (move the atoms, code) after a first coding over ``atoms`` (n_atoms, d), float64, unit norm.

    The history never rises. At the end the atoms are moved once more and coded by the coder's ``refine``; where that
    shows that the codes had fallen behind, it was not the end, and the coder is told to do more each round.
    """
    state = coder.round(atoms)
    coder.accept()
    history, weight, before, coding = [state.objective], 1.0, None, coder.coding
    dead_atoms = _DeadAtoms(l1_penalty)
    stop.tell(0, history[-1])
    for number in range(1, stop.max_rounds + 1):
        moved, replaced = dead_atoms.replace_dead(coder, state, moved_atoms(state, atoms), atoms)
        following = (1 + sqrt(1 + 4 * weight * weight)) / 2
        ahead = moved if before is None else extrapolated(moved, before, (weight - 1) / following, replaced)
        trial = coder.round(ahead)
        if trial.objective > history[-1]:
            following, ahead, trial = 1.0, moved, _below(coder, moved, history[-1])
        reason = "the objective no longer falls, within rounding"
        if trial is not None:
            if number in _LOOKS and not coder.exact:
                trial, _ = _look(coder, ahead, trial, _FAR_BEHIND)
            coder.accept()
            atoms, state, before, weight = ahead, trial, moved, following
            history.append(state.objective)
            stop.tell(number, history[-1])
            reason = stop.reason(history, coder.rounding * state.energy)
        if reason is not None or number == stop.max_rounds:
            coding, exact, moved = None, coder.exact, moved_atoms(state, atoms)
            last, behind = _look(coder, moved, state, max(_BEHIND * stop.tol, _LEAST))
            if last is not state:
                coder.accept()
                history.append(last.objective)
                atoms, state, before, weight, coding = moved, last, None, 1.0, coder.coding
            if reason is not None and (exact or not behind):
                return Alternation(atoms, history, reason, True, number, coding)
    return Alternation(atoms, history, f"{stop.max_rounds} rounds spent", not stop.max_rounds, stop.max_rounds, coding)


def _look(coder: Coder, atoms: np.ndarray, state: Statistics, allowed: float) -> tuple[Statistics, bool]:
    """Refine the codes over these atoms; what that gave, or the state where it is lower; whether codes were behind.

    Behind is by more than ``allowed``, relatively; then the coder does more in each round from now on.
    """
    refined = coder.refine(atoms)
    if refined.objective > state.objective or state.objective == 0:  # 0: atoms that rebuild every row exactly
        return state, False
    lag = 1 - refined.objective / state.objective
    if lag > allowed and not coder.exact:
        coder.increase_effort(2 if lag > 5 * _FAR_BEHIND else 1)
    return refined, lag > allowed


def extrapolated(moved: np.ndarray, before: np.ndarray, length: float, fixed: np.ndarray) -> np.ndarray:
    """``moved + length (moved - before)`` on the unit sphere; the atoms in ``fixed`` stay."""
    ahead = moved + length * (moved - before)
    norms = np.linalg.norm(ahead, axis=1, keepdims=True)
    ahead = np.divide(ahead, norms, out=moved.copy(), where=norms > 0)
    ahead[fixed] = moved[fixed]
    return ahead


def _below(coder: Coder, moved: np.ndarray, bound: float) -> Statistics | None:
    """The round at atoms that were not extrapolated, or None where not even that lowers the objective.

    The codes of a Descent have moved with the round that is taken back, so that they may need patience.
    """
    for sweeps in (None,) if coder.exact else (None, _PATIENT_SWEEPS):
        trial = coder.round(moved, sweeps)
        if trial.objective <= bound:
            return trial
    return None


class _DeadAtoms:
    """Replaces dead atoms, as long as that can help."""

    def __init__(self, l1_penalty: float) -> None:
        self._l1 = l1_penalty
        self._left = _REPLACEMENTS

    def replace_dead(
        self, coder: Coder, state: Statistics, moved: np.ndarray, atoms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Atoms with the dead ones at the rows that are reconstructed worst, and which those are."""
        dead = np.flatnonzero(np.diagonal(state.gram) <= 0)
        if not dead.size or self._left == 0:
            return moved, dead
        here = torch.from_numpy(atoms).to(coder.rows)
        worst, largest = worst_reconstructed(coder.rows, here, coder.codes, dead.size)
        # a residual below the penalty can give no code: then no atom helps any row
        self._left = self._left - 1 if largest > self._l1 else 0
        if self._left:
            moved[dead[: len(worst)]] = worst
        return moved, dead
