"""Sets a LASSO up for its kernels, and runs them on several threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import compile as engine
from ..threads import work_together
from . import few_atoms, many_atoms, pivot_table

_SWEEPS = 6  # of the float32 guess: more leave fewer rows to exchange, fewer cost less
_MANY_SWEEPS = 14  # where atoms outnumber the dimensions
_WIDE_SWEEPS = 5
_ROWS_A_CALL, _WIDE_ROWS_A_CALL = 65536, 4096  # rows between two turns of the interpreter, a tenth of a second at most


@dataclass(frozen=True)
class Solved:
    """Codes (n_rows, n_atoms) in the dtype of the rows, and what is known of them in float64.

    ``rounding``: what the correlations of the largest row may be off by; ``steps``: changes of the support of the
    slowest row; ``fallback_fraction``: the fraction of rows that the sure but slow method had to solve.
    """

    codes: np.ndarray
    objective: float
    optimality: float
    rounding: float
    steps: int
    fallback_fraction: float


@dataclass(frozen=True)
class _Plan:
    """A kernel, all that it needs beside the rows, and how it is called.

    ``chunk`` rows are summed up together, in ``n_totals`` numbers; a call takes ``limit`` of them at most.
    """

    kernel: Callable
    arguments: tuple
    chunk: int
    limit: int
    n_totals: int
    flat: bool  # whether the kernel sees arrays of one axis


@dataclass(frozen=True)
class Problem:
    """What is solved for each row: float64 atoms (n_atoms, d), the penalties of codes above and below zero."""

    atoms: np.ndarray
    l1: float
    l1_neg: float
    tol: float
    max_iter: int


def solve_with_table(problem: Problem, rows: np.ndarray, given: np.ndarray, threads: int) -> Solved:
    """Codes over few atoms; ``given`` has no rows for a cold start."""
    n_atoms, d = problem.atoms.shape
    with pivot_table.space(n_atoms, d) as space:
        totals, codes = _run(_table_plan(problem, space, threads), rows, given, n_atoms, threads)
    objective, worst, rounding, steps, slow = few_atoms.sum_up(totals, len(space.lanes))
    return Solved(codes, objective, worst, rounding, max(1, int(steps)), slow / max(len(codes), 1))


def solve_wide(problem: Problem, rows: np.ndarray, given: np.ndarray, threads: int) -> Solved:
    """Codes over more atoms than a table can hold; the same arguments."""
    totals, codes = _run(_wide_plan(problem), rows, given, len(problem.atoms), threads)
    objective, worst, rounding, steps, slow = totals.T
    share = float(slow.sum()) / max(len(codes), 1)
    largest, doubt = float(worst.max(initial=0.0)), float(rounding.max(initial=0.0))
    return Solved(codes, float(objective.sum()), largest, doubt, max(1, int(steps.max(initial=0))), share)


def make_ready(n_atoms: int, wide: bool, dtype: np.dtype) -> None:
    """Compile the kernels for rows of that dtype, or fetch them from disk, unless done; say so where it takes long."""
    problem = Problem(np.eye(n_atoms, 2), 1.0, 1.0, 1e-9, 1)
    nothing = np.zeros((0, 2), dtype), np.zeros((0, n_atoms), dtype), 1
    lanes = None if wide else len(pivot_table.lanes_for(n_atoms))
    solve = solve_wide if wide else solve_with_table
    engine.make_ready(("lasso", lanes, np.dtype(dtype)), lambda: solve(problem, *nothing))


def _table_plan(problem: Problem, space: pivot_table.Space, threads: int) -> _Plan:
    (n_atoms, d), lanes = problem.atoms.shape, space.lanes
    off_diagonal, inverse = np.empty(n_atoms * n_atoms, np.float32), np.empty(n_atoms, np.float32)
    gram, atoms_t = space.gram, space.atoms_t
    norm = pivot_table.set_up(problem.atoms, gram, atoms_t, off_diagonal, inverse)
    flat = (gram.reshape(-1), atoms_t.reshape(-1), norm, n_atoms, d)
    guess = (off_diagonal, inverse, _SWEEPS if n_atoms <= d else _MANY_SWEEPS)
    table = pivot_table.build(gram[:n_atoms], atoms_t, space.columns, threads)
    arguments = (flat, table, (gram[:n_atoms], problem.atoms), guess, *_settings(problem), lanes)
    limit = _ROWS_A_CALL // few_atoms.CHUNK
    return _Plan(few_atoms.solve_rows, arguments, few_atoms.CHUNK, limit, 2 * len(lanes) + 4, True)


def _wide_plan(problem: Problem) -> _Plan:
    atoms, n_atoms = problem.atoms, len(problem.atoms)
    gram = np.zeros((n_atoms, many_atoms.padded_width(n_atoms)))
    gram[:, :n_atoms] = atoms @ atoms.T
    square = np.diagonal(gram)
    inverse = np.divide(1.0, square, out=np.zeros(n_atoms), where=square > 0).astype(np.float32)
    off_diagonal = (gram[:, :n_atoms] - np.diag(square)).astype(np.float32)
    guess = (off_diagonal.reshape(-1), inverse, _WIDE_SWEEPS)  # of coordinate descent in float32
    arguments = (gram, atoms, np.ascontiguousarray(atoms.T), guess, *_settings(problem))
    return _Plan(many_atoms.solve_rows, arguments, many_atoms.CHUNK, _WIDE_ROWS_A_CALL // many_atoms.CHUNK, 5, False)


def _settings(problem: Problem) -> tuple[float, float, float, int]:
    return problem.l1, problem.l1_neg, problem.tol, problem.max_iter


def _run(plan: _Plan, rows: np.ndarray, given: np.ndarray, n_atoms: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel sums up of each chunk of rows, and the codes."""
    # numpy asks the system for huge pages, torch does not: touching new memory costs many times less
    codes = np.empty((len(rows), n_atoms), rows.dtype)
    totals = np.zeros((-(-len(rows) // plan.chunk), plan.n_totals))
    counter = np.zeros(1, np.int64)  # of chunks that threads have taken: who is free takes the next one
    arguments = (
        *(array.reshape(-1) if plan.flat else array for array in (rows, given, codes)),
        totals,
        counter,
        plan.limit,
        *plan.arguments,
    )

    def work() -> None:
        plan.kernel(*arguments)
        while counter[0] < len(totals):  # between two calls the interpreter has its turn, and hears Ctrl-C
            plan.kernel(*arguments)

    def stop() -> None:
        counter[0] = len(totals)

    work_together(work, min(threads, len(totals)), stop)
    return totals, codes
