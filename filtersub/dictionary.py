"""Learns atoms: alternates sparse coding with exact atom updates until the objective settles.

Atom updates work from the sufficient statistics ``A = C^T C`` and ``B = C^T rows`` (Mairal, Bach, Ponce and Sapiro,
JMLR 11, 2010), one atom at a time on the unit sphere, so they cost no pass over the residuals and the objective
never rises. A random part of the rows is learned on first; the full matrix then needs only a few rounds.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ConvergenceWarning, FiltersubError
from .sparse_coding import SOLVERS, CodingResult, check_solver, encode, lasso_objective, principal_atoms
from .sparse_coding.linear import second_moment

_SWEEPS = 3  # of block-coordinate atom updates between two codings; more change the outcome little


@dataclass(frozen=True)
class DictionaryResult:
    """Learned atoms (n_atoms, d), unit norm, and the codes (n_rows, n_atoms) of all rows over them.

    ``objective`` is the history over the rounds on all rows; it never rises. ``rounds`` counts those on the sample too.
    ``converged`` tells whether the relative decrease fell below the tolerance before the rounds were spent.
    """

    atoms: Tensor
    codes: Tensor
    objective: tuple[float, ...]
    rounds: int
    seconds: float
    optimality: float
    converged: bool


def learn_dictionary(
    rows: Tensor,
    n_atoms: int,
    *,
    solver: str = "lasso",
    l1_penalty: float = 1e-3,
    n_nonzero: int | None = None,
    max_rounds: int = 100,
    tol: float = 1e-4,
    seed: int = 0,
    sample_rows: int = 16384,
    atoms_init: Tensor | None = None,
) -> DictionaryResult:
    """Atoms and codes that minimise ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1`` (equation 1 of the digest, l =
    lambda / 2), atoms of unit norm; a local minimum, since the problem is not convex.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d)
    n_atoms : int from 1 to n_rows (for pca also at most d)
    solver : a name in sparse_coding.SOLVERS; "pca" is direct and takes no penalty
    l1_penalty : float >= 0; n_nonzero : int, for "omp", default a third of the atoms, at least 1
    max_rounds, tol : at most so many rounds on all rows; stop when one lowers the objective by less than tol,
    relatively seed : the same seed and rows give the same atoms, bit for bit, on one machine
    sample_rows : rows of the random part that is learned on first; no such part when there are fewer than twice as many
    atoms_init : Tensor of shape (n_atoms, d), default randomly chosen rows

    Atoms are canonical: ordered by falling energy of their codes, each with its largest entry positive.
    Raises FiltersubError on unknown solvers, bad counts and shapes.
    """
    check_solver(solver)
    _check_counts(rows, n_atoms, max_rounds)
    started = time.perf_counter()
    if SOLVERS[solver] == "linear":
        return _principal(rows, n_atoms, started)
    if SOLVERS[solver] == "support" and n_nonzero is None:
        n_nonzero = max(1, n_atoms // 3)
    generator = torch.Generator().manual_seed(seed)
    task = _Task(solver, l1_penalty, n_nonzero, tol)
    atoms = _initial_atoms(rows, n_atoms, generator) if atoms_init is None else _unit(atoms_init.to(rows))
    rounds = 0
    if rows.shape[0] >= 2 * sample_rows:
        chosen = torch.randperm(rows.shape[0], generator=generator)[:sample_rows].to(rows.device)
        atoms, _, history, _ = _alternate(task, rows[chosen], atoms, max_rounds)
        rounds += len(history)
    atoms, coding, history, converged = _alternate(task, rows, atoms, max_rounds)
    if not coding.converged:
        warnings.warn(
            f"solver {solver!r} left a KKT violation of {coding.optimality:.1e} in its last coding",
            ConvergenceWarning,
            2,
        )
    atoms, codes = _canonical(atoms, coding.codes)
    return DictionaryResult(
        atoms,
        codes,
        tuple(history),
        rounds + len(history),
        time.perf_counter() - started,
        coding.optimality,
        converged,
    )


@dataclass(frozen=True)
class _Task:
    """What is minimised, as opposed to over which rows."""

    solver: str
    l1_penalty: float
    n_nonzero: int | None
    tol: float

    def encode(self, rows: Tensor, atoms: Tensor, codes: Tensor | None) -> CodingResult:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last round's state is reported, once
            coding = encode(
                rows, atoms, self.solver, l1_penalty=self.l1_penalty, n_nonzero=self.n_nonzero, codes_init=codes
            )
        if codes is None or SOLVERS[self.solver] != "support":
            return coding
        return _keep_better(rows, atoms, codes, coding)  # a greedy pursuit may do worse than what was there

    def objective(self, rows: Tensor, atoms: Tensor, codes: Tensor) -> float:
        return lasso_objective(rows, atoms, codes, self.l1_penalty if SOLVERS[self.solver] == "penalty" else 0.0)


def _alternate(
    task: _Task, rows: Tensor, atoms: Tensor, max_rounds: int
) -> tuple[Tensor, CodingResult, list[float], bool]:
    """Rounds of (update atoms, code) after a first coding; returns atoms, their coding, history, converged."""
    coding = task.encode(rows, atoms, None)
    history = [task.objective(rows, atoms, coding.codes)]
    for _ in range(max_rounds):
        moved = update_atoms(rows, atoms, coding.codes)
        following = task.encode(rows, moved, coding.codes)
        value = task.objective(rows, moved, following.codes)
        if value > history[-1]:  # only rounding can do this; the state before it is the better one
            return atoms, coding, history, True
        atoms, coding = moved, following
        history.append(value)
        if history[-2] - value <= task.tol * history[-2]:
            return atoms, coding, history, True
    return atoms, coding, history, max_rounds == 0


def update_atoms(rows: Tensor, atoms: Tensor, codes: Tensor) -> Tensor:
    """Each atom in turn moved to its best place on the unit sphere, the others and the codes fixed.

    rows (n_rows, d), atoms (n_atoms, d), codes (n_rows, n_atoms). An atom that no code refers to (a dead atom)
    becomes the direction of a row that the others reconstruct worst. Never raises ``1/2 ||rows - codes atoms||_F^2``.
    """
    gram, target = second_moment(codes), second_moment(codes, rows)
    moved = atoms.double().clone()
    alive = gram.diagonal() > 0
    for _ in range(_SWEEPS):
        for j in torch.nonzero(alive)[:, 0].tolist():
            direction = target[j] - gram[j] @ moved + gram[j, j] * moved[j]
            norm = direction.norm()
            if norm > 0:
                moved[j] = direction / norm
    dead = torch.nonzero(~alive)[:, 0]
    if dead.numel():
        errors = (rows.double() - codes.double() @ moved).square().sum(1)
        worst = errors.topk(min(dead.numel(), rows.shape[0])).indices
        worst = worst[errors[worst] > 0]
        moved[dead[: worst.numel()]] = _unit(rows[worst].double())
    return moved.to(atoms.dtype)


def _keep_better(rows: Tensor, atoms: Tensor, codes: Tensor, coding: CodingResult) -> CodingResult:
    """Row by row the codes with the smaller residual."""
    before, after = ((rows - c @ atoms).square().sum(1) for c in (codes, coding.codes))
    kept = torch.where((before < after)[:, None], codes, coding.codes)
    return CodingResult(
        kept, coding.objective, coding.iterations, coding.seconds, coding.optimality, coding.converged, coding.details
    )


def _principal(rows: Tensor, n_atoms: int, started: float) -> DictionaryResult:
    leading = principal_atoms(rows, n_atoms)
    coding = encode(rows, leading, "pca")
    atoms, codes = _canonical(leading, coding.codes)
    objective = lasso_objective(rows, atoms, codes, 0.0)
    return DictionaryResult(atoms, codes, (objective,), 1, time.perf_counter() - started, coding.optimality, True)


def _initial_atoms(rows: Tensor, n_atoms: int, generator: torch.Generator) -> Tensor:
    """Unit-norm directions of randomly chosen rows; random directions where a chosen row is zero."""
    chosen = rows[torch.randperm(rows.shape[0], generator=generator)[:n_atoms].to(rows.device)]
    spare = torch.randn(chosen.shape, generator=generator, dtype=torch.float64).to(chosen)
    return _unit(torch.where(chosen.norm(dim=1, keepdim=True) > 0, chosen, spare))


def _canonical(atoms: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Fixes what the problem leaves open: the sign (largest entry positive) and the order (falling energy of codes)."""
    order = codes.double().square().sum(0).argsort(descending=True, stable=True)
    atoms, codes = atoms[order], codes[:, order]
    peaks = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))
    signs = torch.where(peaks < 0, -1.0, 1.0).to(atoms.dtype)
    return atoms * signs, codes * signs.T


def _unit(atoms: Tensor) -> Tensor:
    return atoms / atoms.norm(dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)


def _check_counts(rows: Tensor, n_atoms: int, max_rounds: int) -> None:
    if isinstance(n_atoms, bool) or not isinstance(n_atoms, int) or n_atoms < 1:
        raise FiltersubError(f"the number of atoms must be a positive integer, got {n_atoms!r}")
    if n_atoms > rows.shape[0]:
        raise FiltersubError(f"{n_atoms} atoms for {rows.shape[0]} rows: use at most as many atoms as rows")
    if max_rounds < 0:
        raise FiltersubError(f"max_rounds must not be negative, got {max_rounds}")
