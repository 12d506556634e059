"""The alternation: code, move the atoms, extrapolate; never uphill.

With the codes made for them, the atoms follow a fixed-point iteration that crawls where many dictionaries do almost
as well. Nesterov's extrapolation of the atoms (with the usual sequence of weights, atoms back on the sphere) takes four
to ten times fewer rounds; where it would raise the objective the round is taken back, and the sequence starts anew
(the restart of O'Donoghue and Candes, Found. Comput. Math. 15, 2015).

Between two atom updates the codes of a LASSO need not be exact: any sweep of coordinate descent lowers the objective,
and the codes of the last round are near. How near is looked at now and then; where the penalty is small and atoms are
alike, sweeps creep, and rounds take more of them or code exactly. float32 rows are swept in float32, float64 rows in
float64; sums over rows are in float64 and over fixed chunks, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import chunk_rows, work_together
from ..errors import ConvergenceWarning
from ..sparse_coding import SOLVERS, CodingResult, encode, lasso_objective
from ..sparse_coding.linear import second_moment

WINDOW = 5  # rounds over which the decrease is judged: single ones are small where the extrapolation starts anew
_PATIENT_SWEEPS = 64  # to get below the last objective after a round that was taken back
_REPLACEMENTS = 10  # rounds that may replace dead atoms
_LOOKS = frozenset({8, 32, 128, 512})  # rounds after which inexact codes are compared with exact ones
_FAR_BEHIND = 0.02  # relative cost of inexact codes that the rounds will not make up for
_BEHIND = 10  # times tol: the same, of codes at rest
_LEAST = 1e-5  # but not below what float32 tells apart
_SWEEPS_OF_ATOMS = 3  # block-coordinate updates of the atoms between two codings; more change the outcome little
_EFFORTS = (4, 16, 64)  # sweeps of a round: few, as long as that keeps the codes near; beyond, codes are exact
_FEW_ATOMS = 13  # up to which exact codes take little longer than the sweeps that come near them
_COLD_SWEEPS = 30  # the first round from zero, where exact codes are dear


@dataclass(frozen=True)
class Statistics:
    """``gram`` = C^T C (n_atoms, n_atoms) and ``target`` = C^T rows (n_atoms, d), float64, with the objective.

    They determine the best atoms for these codes; no pass over the residuals is needed (Mairal, Bach, Ponce and
    Sapiro, JMLR 11, 2010). The objective is that of the codes and of the atoms they were made for, ``energy`` is
    ``1/2 ||rows||_F^2``; both are sums over rows.
    """

    gram: np.ndarray
    target: np.ndarray
    objective: float
    energy: float


class Coder:
    """Rows (n_rows, d) with codes that a round makes (Coding) or improves (Descent).

    ``exact``: whether rounds end with exact codes, so that there is nothing to refine; ``effort``: how often it proved
    that a round leaves the codes behind; ``coding``: the solver's last, where the codes are its in full.
    """

    exact: bool
    codes: Tensor

    def __init__(self, rows: Tensor, effort: int = 0) -> None:
        self.rows, self.effort = rows, effort
        self.coding: CodingResult | None = None
        self.rounding = float(torch.finfo(rows.dtype).eps)

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics:
        """Codes over these unit-norm atoms (n_atoms, d), float64."""
        raise NotImplementedError

    def refine(self, atoms: np.ndarray) -> Statistics:
        """The best codes that the coder has."""
        return self.round(atoms)

    def accept(self) -> None:
        """Keep the codes of the last round."""


class Descent(Coder):
    """Rows (n_rows, d) on the CPU with their codes (n_rows, n_atoms), which every round improves in place.

    ``encode(atoms, codes)`` codes the rows in full; where that is cheap, the first round does, and refine.
    """

    def __init__(
        self,
        rows: Tensor,
        n_atoms: int,
        l1_penalty: float,
        nonnegative: bool,
        encode: Callable[[Tensor, Tensor | None], CodingResult] | None = None,
        effort: int = 0,
    ) -> None:
        super().__init__(rows, effort)
        self.codes = torch.from_numpy(np.zeros((rows.shape[0], n_atoms), rows.numpy().dtype))
        self._l1, self._l1_neg = l1_penalty, np.inf if nonnegative else l1_penalty
        self._chunk = chunk_rows(len(rows))
        self._encode = encode
        self._begun = False

    @property
    def exact(self) -> bool:
        return self._encode is not None and self.effort >= len(_EFFORTS)

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics:
        if sweeps is None and self._encode is not None and (self.exact or not self._begun):
            return self.refine(atoms)
        if sweeps is None:
            sweeps = _EFFORTS[min(self.effort, len(_EFFORTS) - 1)] if self._begun else _COLD_SWEEPS
        self._begun, self.coding = True, None
        return self._swept(atoms, sweeps)

    def refine(self, atoms: np.ndarray) -> Statistics:
        """Exact codes, or, where they are dear, those of many sweeps."""
        if self._encode is None:
            return self.round(atoms, _EFFORTS[-1])
        self.coding = self._encode(torch.from_numpy(atoms).to(self.rows), self.codes if self._begun else None)
        self.codes, self._begun = self.coding.codes, True
        return self._swept(atoms, 0)

    def _swept(self, atoms: np.ndarray, sweeps: int) -> Statistics:
        from ..engine.dictionary import sweep_rows

        (n_atoms, d), dtype = atoms.shape, self.codes.numpy().dtype
        gram = atoms @ atoms.T
        squares = np.diagonal(gram).copy()
        np.fill_diagonal(gram, 0.0)
        inverse = np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0)
        problem = (
            atoms.astype(dtype).reshape(-1),
            gram.astype(dtype).reshape(-1),
            inverse.astype(dtype),
            dtype.type(self._l1),
            dtype.type(self._l1_neg),
            sweeps,
        )
        sums = np.zeros((-(-len(self.rows) // self._chunk), n_atoms * (n_atoms + d) + 2))
        counter = np.zeros(1, np.int64)  # of chunks that threads have taken: who is free takes the next one
        work = partial(sweep_rows, self.rows.numpy(), self.codes.numpy(), self._chunk, counter, *problem, sums)
        threads = min(torch.get_num_threads(), len(sums))
        if threads == 1:
            work()
        else:
            work_together(work, threads, partial(counter.fill, len(sums)))

        totals = sums.sum(0)
        products = totals[:-2].reshape(n_atoms, n_atoms + d)
        lower = np.tril(products[:, :n_atoms])
        gram, target = lower + np.tril(lower, -1).T, np.ascontiguousarray(products[:, n_atoms:])
        fit = 0.5 * np.vdot(gram, atoms @ atoms.T) - np.vdot(target, atoms)
        size, energy = totals[-2], 0.5 * totals[-1]
        return Statistics(gram, target, float(energy + fit + self._l1 * size), float(energy))


class Coding(Coder):
    """Every round codes the rows in full, on any device."""

    exact = True
    codes = None

    def __init__(self, rows: Tensor, task: Task) -> None:
        super().__init__(rows)
        self._task = task
        self._energy = 0.5 * sum(float(part.double().square().sum()) for part in rows.split(1 << 16))

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics:
        here = torch.from_numpy(atoms).to(self.rows)
        self.coding = self._task.encode(self.rows, here, self.codes)
        found = self.coding.codes
        gram, target = second_moment(found), second_moment(found, self.rows)
        value = self._task.objective(self.rows, here, found)
        return Statistics(gram.cpu().numpy(), target.cpu().numpy(), value, self._energy)

    def accept(self) -> None:
        self.codes = self.coding.codes


@dataclass(frozen=True)
class Task:
    """What is minimised, as opposed to over which rows."""

    solver: str
    n_atoms: int
    l1_penalty: float
    n_nonzero: int | None
    nonnegative: bool

    @property
    def kind(self) -> str:
        return SOLVERS[self.solver]

    def encode(self, rows: Tensor, atoms: Tensor, codes: Tensor | None = None) -> CodingResult:
        """Codes of the rows; with codes that are there, no row of a greedy solver gets worse."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last coding's state is reported, once
            coding = encode(
                rows,
                atoms,
                self.solver,
                l1_penalty=self.l1_penalty,
                n_nonzero=self.n_nonzero,
                nonnegative=self.nonnegative,
                codes_init=codes,
            )
        if codes is None or self.kind != "support":
            return coding
        before, after = ((rows - c @ atoms).square().sum(1) for c in (codes, coding.codes))
        return replace(coding, codes=torch.where((before < after)[:, None], codes, coding.codes))

    def coder(self, rows: Tensor, effort: int = 0) -> Coder:
        """Descent for the exact LASSO, whose alternation needs no exact codes; else the solver itself."""
        if self.solver == "lasso" and self.l1_penalty > 0:
            encode_rows = partial(self.encode, rows) if self.n_atoms <= _FEW_ATOMS else None
            return Descent(rows, self.n_atoms, self.l1_penalty, self.nonnegative, encode_rows, effort)
        return Coding(rows, self)

    def objective(self, rows: Tensor, atoms: Tensor, codes: Tensor) -> float:
        """``1/2 ||rows - codes atoms||_F^2``, and the penalty where the solver has one; a sum over rows."""
        return lasso_objective(rows, atoms, codes, self.l1_penalty if self.kind == "penalty" else 0.0)


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
        coder.effort += 2 if lag > 5 * _FAR_BEHIND else 1
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


def array_of(atoms: Tensor) -> np.ndarray:
    """Atoms as the updates want them: float64, on the CPU."""
    return atoms.detach().double().cpu().numpy()


def update_atoms(rows: Tensor, atoms: Tensor, codes: Tensor) -> Tensor:
    """Each atom in turn moved to its best place on the unit sphere, the others and the codes fixed.

    rows (n_rows, d), atoms (n_atoms, d), codes (n_rows, n_atoms). An atom that no code refers to (a dead atom)
    becomes the direction of a row that the others reconstruct worst. Never raises ``1/2 ||rows - codes atoms||_F^2``.
    """
    gram, target = second_moment(codes).cpu().numpy(), second_moment(codes, rows).cpu().numpy()
    moved = moved_atoms(Statistics(gram, target, 0.0, 0.0), array_of(atoms))
    dead = np.flatnonzero(np.diagonal(gram) <= 0)
    if dead.size:
        worst, _ = worst_reconstructed(rows, torch.from_numpy(moved).to(rows), codes, dead.size)
        moved[dead[: len(worst)]] = worst
    return torch.from_numpy(moved).to(atoms)


def moved_atoms(statistics: Statistics, atoms: np.ndarray) -> np.ndarray:
    """The living atoms at their best places; dead ones stay."""
    from ..engine.dictionary import sweep_atoms

    moved = np.array(atoms, dtype=np.float64, order="C")
    sweep_atoms(statistics.gram, statistics.target, moved, _SWEEPS_OF_ATOMS)
    return moved


def worst_reconstructed(rows: Tensor, atoms: Tensor, codes: Tensor, count: int) -> tuple[np.ndarray, float]:
    """Unit-norm directions, float64, of the ``count`` rows with the largest residuals, and the largest ||residual||.

    Rows that are reconstructed exactly are left out.
    """
    parts = zip(rows.split(1 << 16), codes.split(1 << 16), strict=True)
    errors = torch.cat([(part - code @ atoms).square().sum(1) for part, code in parts])
    order = errors.topk(min(count, len(errors)))
    chosen = order.indices[order.values > 0]
    worst = rows[chosen].double()
    largest = float(order.values[0].double().sqrt()) if len(errors) else 0.0
    return (worst / worst.norm(dim=1, keepdim=True)).cpu().numpy(), largest
