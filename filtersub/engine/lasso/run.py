"""Sets a LASSO up for its kernels, and runs them on several threads."""

from collections.abc import Callable

import numpy as np

from .. import compile as engine
from ..threads import work_together
from . import few_atoms, many_atoms, pivot_table
from .active_set import LANES

_SWEEPS = 6  # of the float32 guess: more leave fewer rows to exchange, fewer cost less
_MANY_SWEEPS = 14  # where atoms outnumber the dimensions
_WIDE_SWEEPS = 5
_ROWS_A_CALL, _WIDE_ROWS_A_CALL = 65536, 4096  # rows between two turns of the interpreter, a tenth of a second at most


#: Codes (n_rows, n_atoms) in the dtype of the rows, and what is known of them in float64: the objective, the largest
#: violation of the optimality conditions, what the correlations of the largest row may be off by, the changes of the
#: support of the slowest row, the fraction of rows that the sure but slow method had to solve.
Solved = tuple[np.ndarray, float, float, float, int, float]


def solve_with_table(
    atoms: np.ndarray, settings: tuple[float, float, float, int], rows: np.ndarray, given: np.ndarray, threads: int
) -> Solved:
    """Codes over few atoms (n_atoms, d), float64; ``given`` has no rows for a cold start.

    The settings are the penalties of codes above and below zero, the tolerance, and the most steps.
    """
    n_atoms, d = atoms.shape
    # numpy asks the system for huge pages, torch does not: touching new memory costs many times less
    codes, space = np.empty((len(rows), n_atoms), rows.dtype), pivot_table.Space(n_atoms, d)
    lanes, gram, atoms_t = space.lanes, space.gram, space.atoms_t
    off_diagonal, inverse = np.empty(n_atoms * n_atoms, np.float32), np.empty(n_atoms, np.float32)
    norm = pivot_table.set_up(atoms, gram, atoms_t, off_diagonal, inverse)
    flat = (gram.reshape(-1), atoms_t.reshape(-1), norm, n_atoms, d)
    guess = (off_diagonal, inverse, _SWEEPS if n_atoms <= d else _MANY_SWEEPS)
    table = pivot_table.build(gram[:n_atoms], atoms_t, space.columns, threads)
    arrays = tuple(array.reshape(-1) for array in (rows, given, codes))
    totals = np.zeros((-(-len(rows) // few_atoms.CHUNK), 2 * len(lanes) + 4))
    setup = (flat, table, (gram[:n_atoms], atoms), guess, *settings, lanes)
    run_kernel(few_atoms.solve_rows, arrays, totals, _ROWS_A_CALL // few_atoms.CHUNK, setup, threads)
    objective, worst, rounding, steps, slow = few_atoms.sum_up(totals, len(lanes))
    return codes, objective, worst, rounding, max(1, int(steps)), slow / max(len(codes), 1)


def solve_wide(
    atoms: np.ndarray, settings: tuple[float, float, float, int], rows: np.ndarray, given: np.ndarray, threads: int
) -> Solved:
    """Codes over more atoms than a table can hold; the same arguments."""
    n_atoms = len(atoms)
    codes = np.empty((len(rows), n_atoms), rows.dtype)
    gram = np.zeros((n_atoms, -(-n_atoms // LANES) * LANES))  # rows of whole vectors
    gram[:, :n_atoms] = atoms @ atoms.T
    square = np.diagonal(gram)
    inverse = np.divide(1.0, square, out=np.zeros(n_atoms), where=square > 0).astype(np.float32)
    off_diagonal = (gram[:, :n_atoms] - np.diag(square)).astype(np.float32)
    guess = (off_diagonal.reshape(-1), inverse, _WIDE_SWEEPS)  # of coordinate descent in float32
    totals = np.zeros((-(-len(rows) // many_atoms.CHUNK), 5))
    setup = (gram, atoms, np.ascontiguousarray(atoms.T), guess, *settings)
    limit = _WIDE_ROWS_A_CALL // many_atoms.CHUNK
    run_kernel(many_atoms.solve_rows, (rows, given, codes), totals, limit, setup, threads)
    objective, worst, rounding, steps, slow = totals.T
    share = float(slow.sum()) / max(len(codes), 1)
    largest, doubt = float(worst.max(initial=0.0)), float(rounding.max(initial=0.0))
    return codes, float(objective.sum()), largest, doubt, max(1, int(steps.max(initial=0))), share


def make_ready(n_atoms: int, wide: bool, dtype: np.dtype) -> None:
    """Compile the kernels for rows of that dtype, or fetch them from disk, unless done; say so where it takes long."""
    nothing = np.eye(n_atoms, 2), (1.0, 1.0, 1e-9, 1), np.zeros((0, 2), dtype), np.zeros((0, n_atoms), dtype), 1
    lanes = None if wide else len(pivot_table.lanes_for(n_atoms))
    solve = solve_wide if wide else solve_with_table
    engine.make_ready(("lasso", lanes, np.dtype(dtype)), lambda: solve(*nothing))


def run_kernel(
    kernel: Callable, arrays: tuple[np.ndarray, ...], totals: np.ndarray, limit: int, setup: tuple, threads: int
) -> None:
    """Call the kernel until it has summed up each chunk of rows in a line of ``totals``, ``limit`` chunks a call."""
    counter = np.zeros(1, np.int64)  # of chunks that threads have taken: who is free takes the next one
    arguments = (*arrays, totals, counter, limit, *setup)

    def work() -> None:
        kernel(*arguments)
        while counter[0] < len(totals):  # between two calls the interpreter has its turn, and hears Ctrl-C
            kernel(*arguments)

    def stop() -> None:
        counter[0] = len(totals)

    work_together(work, min(threads, len(totals)), stop)
