"""Sets a LASSO up for its kernels, and runs them on several threads.

Plain threads rather than numba's parallel loops: the kernels release the interpreter's lock, compile in half the time,
may run twice at once, touch no other library's threads, and leave no pool behind, see ``_crew``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import _lasso_pivot, _lasso_table, _lasso_wide
from ._crew import work_together

_SWEEPS = 6  # of the float32 guess: more leave fewer rows to exchange, fewer cost less
_MANY_SWEEPS = 14  # where atoms outnumber the dimensions
_WIDE_SWEEPS = 5
_LOT, _WIDE_LOT = 65536, 4096  # rows between two turns of the interpreter, a tenth of a second at most
_NOTICE_SECONDS = 1.0  # loading from the cache takes less
_ready: set[tuple] = set()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Solved:
    """Codes (n_rows, n_atoms) in the dtype of the rows, and what is known of them in float64.

    ``rounding``: what the correlations of the largest row may be off by; ``steps``: changes of the support of the
    slowest row; ``descents``: the fraction of rows that the sure but slow method had to solve.
    """

    codes: np.ndarray
    objective: float
    optimality: float
    rounding: float
    steps: int
    descents: float


@dataclass(frozen=True)
class _Plan:
    """A kernel, all that it needs beside the rows, and how it is called.

    ``chunk`` rows are summed up together, in ``n_totals`` numbers; a call takes ``lot`` chunks at most.
    """

    kernel: Callable
    arguments: tuple
    chunk: int
    lot: int
    n_totals: int
    flat: bool  # whether the kernel sees arrays of one axis


@dataclass(frozen=True)
class Problem:
    """What is solved for each row: float64 atoms (n_atoms, d), the penalties of codes above and below zero."""

    atoms: np.ndarray
    l1: float
    down: float
    tol: float
    max_iter: int


def solve_with_table(problem: Problem, rows: np.ndarray, given: np.ndarray, threads: int) -> Solved:
    """Codes over few atoms; ``given`` has no rows for a cold start."""
    lanes = len(_lasso_table.lanes_for(len(problem.atoms)))
    with _lasso_table.space(len(problem.atoms)) as space:
        totals, codes = _run(_table_plan(problem, space, threads), rows, given, len(problem.atoms), threads)
    worst, value = totals[:, :lanes], totals[:, lanes : 2 * lanes]
    energy, rounding, descents, steps = totals[:, 2 * lanes :].T
    return _sum_up(codes, 0.5 * energy.sum() + value.sum(), worst, rounding, steps, descents)


def solve_wide(problem: Problem, rows: np.ndarray, given: np.ndarray, threads: int) -> Solved:
    """Codes over more atoms than a table can hold; the same arguments."""
    totals, codes = _run(_wide_plan(problem), rows, given, len(problem.atoms), threads)
    objective, worst, rounding, steps, slow = totals.T
    return _sum_up(codes, objective.sum(), worst, rounding, steps, slow)


def _sum_up(
    codes: np.ndarray,
    objective: np.floating,
    worst: np.ndarray,
    rounding: np.ndarray,
    steps: np.ndarray,
    slow: np.ndarray,
) -> Solved:
    largest_step, share = max(1, int(steps.max(initial=0))), float(slow.sum()) / max(len(codes), 1)
    largest, doubt = float(worst.max(initial=0.0)), float(rounding.max(initial=0.0))
    return Solved(codes, float(objective), largest, doubt, largest_step, share)


def make_ready(n_atoms: int, wide: bool, dtype: np.dtype) -> None:
    """Compile the kernels for rows of that dtype, or fetch them from disk, unless done; say so where it takes long."""
    key = (wide, None if wide else len(_lasso_table.lanes_for(n_atoms)), np.dtype(dtype))
    if key in _ready:
        return
    notice = threading.Timer(_NOTICE_SECONDS, _log.warning, ["compiling the LASSO's kernels, once on this machine ..."])
    notice.daemon = True
    notice.start()
    try:
        problem = Problem(np.eye(n_atoms, 2), 1.0, 1.0, 1e-9, 1)
        nothing = np.zeros((0, 2), dtype), np.zeros((0, n_atoms), dtype), n_atoms, 1
        if wide:
            _run(_wide_plan(problem), *nothing)
        else:
            _run(_table_plan(problem, np.zeros(_lasso_table.size(n_atoms)), 1), *nothing)
    finally:
        notice.cancel()
    _ready.add(key)


def _table_plan(problem: Problem, space: np.ndarray, threads: int) -> _Plan:
    atoms = problem.atoms
    n_atoms, d = atoms.shape
    lanes = _lasso_table.lanes_for(n_atoms)
    padded = _lasso_table.zeros_in_line((n_atoms + 1) * len(lanes)).reshape(-1, len(lanes))  # sums take atoms in pairs
    gram, atoms_t = padded[:n_atoms], _lasso_table.zeros_in_line(d * len(lanes)).reshape(d, -1)
    gram[:, :n_atoms], atoms_t[:, :n_atoms] = atoms @ atoms.T, atoms.T
    norm = float(np.sqrt(np.diagonal(gram).max()))
    flat = (padded.reshape(-1), atoms_t.reshape(-1), norm, n_atoms, d)
    guess = _guess_problem(gram[:, :n_atoms], _SWEEPS if n_atoms <= d else _MANY_SWEEPS)
    arguments = (flat, _lasso_table.build(gram, atoms_t, space, threads), guess, *_settings(problem), lanes)
    lot = _LOT // _lasso_pivot.CHUNK
    return _Plan(_lasso_pivot.solve_rows, arguments, _lasso_pivot.CHUNK, lot, 2 * len(lanes) + 4, True)


def _wide_plan(problem: Problem) -> _Plan:
    atoms, n_atoms = problem.atoms, len(problem.atoms)
    gram = np.zeros((n_atoms, _lasso_wide.padded_width(n_atoms)))
    gram[:, :n_atoms] = atoms @ atoms.T
    guess = _guess_problem(gram[:, :n_atoms], _WIDE_SWEEPS)
    arguments = (gram, atoms, np.ascontiguousarray(atoms.T), guess, *_settings(problem))
    return _Plan(_lasso_wide.solve_rows, arguments, _lasso_wide.CHUNK, _WIDE_LOT // _lasso_wide.CHUNK, 5, False)


def _settings(problem: Problem) -> tuple[float, float, float, int]:
    return problem.l1, problem.down, problem.tol, problem.max_iter


def _guess_problem(gram: np.ndarray, sweeps: int) -> tuple[np.ndarray, np.ndarray, int]:
    """What coordinate descent in float32 needs: the Gram matrix off its diagonal, and one over the diagonal."""
    square = np.diagonal(gram)
    inverse = np.divide(1.0, square, out=np.zeros(square.size), where=square > 0).astype(np.float32)
    return (gram - np.diag(square)).astype(np.float32).reshape(-1), inverse, sweeps


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
        plan.lot,
        *plan.arguments,
    )

    def work() -> None:
        plan.kernel(*arguments)
        while counter[0] < len(totals):  # between two lots the interpreter has its turn, and hears Ctrl-C
            plan.kernel(*arguments)

    def stop() -> None:
        counter[0] = len(totals)

    work_together(work, min(threads, len(totals)), stop)
    return totals, codes
