"""LASSO, exactly: hundreds of thousands of small problems that share one dictionary, on the CPU.

Few atoms (up to 13): every support has its row in a table of principal pivots, see ``_lasso_table`` and
``_lasso_pivot``. More atoms: an active set per row, see ``_lasso_wide``. Both work in float64 and check the
optimality conditions of each row. numba compiles the kernels on the first call, never on import.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning, FiltersubError
from .result import CodingResult, check_penalty, check_problem

_TABLE_ATOMS = 13  # 2^13 sets, 6.8 MB: beyond, the table outgrows the caches and takes longer to build than to use
_SWEEPS = 10  # of the float32 guess: more leave fewer rows to exchange, fewer cost less
_MANY_SWEEPS = 20  # where atoms outnumber the dimensions
_WARM_SWEEPS = 2
_WIDE_SWEEPS = 20
_SHARE = 2  # chunks that a thread takes at a time
_CHUNK = 16384  # rows at once where torch does the work


def lasso(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    max_iter: int = 1000,
    tol: float = 1e-9,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, to the last digit.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``  (a sum, not divided by n_rows).

    Runs on the CPU, in float64, on as many threads as torch (``torch.set_num_threads``); results do not depend on
    their number. Rows on another device are copied to the CPU and their codes back.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d), float32 or float64
    atoms : Tensor of shape (n_atoms, d); any norm, also zero, dependent or repeated
    l1_penalty : float >= 0; from ``max|rows @ atoms.T|`` upwards every code is zero, 0 is least squares (the codes of
        smallest norm where several fit equally well)
    max_iter : int, changes of the support at most, for a row that needs them one by one
    tol : float, each row's largest KKT violation may be ``tol * l1_penalty`` plus float64's rounding
    codes_init : Tensor of shape (n_rows, n_atoms), default none; near the solution it saves the first guess, and
        nothing else depends on it (where several codes are optimal, which of them)

    Returns
    -------
    CodingResult
        ``objective`` (one entry) and ``optimality`` belong to the float64 codes, before they are rounded to the dtype
        of the rows; rounding to float32 moves the gradient by about 1e-7 of the correlations. ``details`` has the
        ``descents``: the fraction of rows whose atoms were exchanged one by one.

    Raises FiltersubError (a ValueError) when shapes disagree (naming both), l1_penalty < 0, or rows are not float32 or
    float64.
    Warns ConvergenceWarning when some row is left above the tolerance.

    >>> lasso(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    if not _looks_right(rows, atoms, codes_init):
        check_problem(rows, atoms, codes_init)  # says what is wrong, if anything is
    check_penalty(l1_penalty)
    if rows.dtype not in (torch.float32, torch.float64):
        raise FiltersubError(f"rows must be float32 or float64, got {rows.dtype}")
    started = time.perf_counter()
    data = rows.detach().cpu().contiguous()
    given = None if codes_init is None else codes_init.detach().to("cpu", rows.dtype).contiguous()
    atoms64 = atoms.detach().to("cpu", torch.float64).contiguous()
    if l1_penalty == 0:
        solve = _least_squares
    elif atoms.shape[0] <= _TABLE_ATOMS:
        solve = _with_table
    else:
        solve = _with_active_sets
    codes, objective, optimality, allowed, steps, descents = solve(
        data, atoms64, float(l1_penalty), max_iter, tol, given
    )
    codes = codes.to(rows.device)
    seconds = time.perf_counter() - started

    converged = optimality <= allowed
    if not converged:
        warnings.warn(
            f"lasso left a KKT violation of {optimality:.2e} (tolerance {allowed:.2e}) after {steps} changes of the "
            "support; raise max_iter, or drop atoms that nearly repeat others",
            ConvergenceWarning,
            stacklevel=2,
        )
    return CodingResult(codes, (objective,), steps, seconds, optimality, converged, {"descents": descents})


def _looks_right(rows: Tensor, atoms: Tensor, codes_init: Tensor | None) -> bool:
    """A quick look, in which good input passes: testing every element takes as long as the coding itself."""
    shape = (*rows.shape[:1], *atoms.shape[:1])
    fits = rows.ndim == atoms.ndim == 2 and rows.shape[1] == atoms.shape[1] and atoms.shape[0] > 0
    fits = fits and (codes_init is None or codes_init.shape == shape)
    return fits and bool(torch.isfinite(rows.sum())) and bool(torch.isfinite(atoms.sum()))


def _empty_codes(rows: Tensor, n_atoms: int) -> Tensor:
    """numpy asks the system for huge pages, torch does not: touching new memory costs many times less."""
    dtype = np.float32 if rows.dtype == torch.float32 else np.float64
    return torch.from_numpy(np.empty((rows.shape[0], n_atoms), dtype))


def warm_up() -> None:
    """Compile the kernels, or fetch them from numba's cache on disk, ahead of use; they serve both dtypes of rows."""
    for n_atoms in (2, 9, _TABLE_ATOMS + 1):
        lasso(torch.eye(2), torch.ones(n_atoms, 2), 0.5)


def _least_squares(rows, atoms, l1, max_iter, tol, given):
    """Codes of smallest norm, by the pseudo-inverse; the gradient is checked in float64."""
    inverse = torch.linalg.pinv(atoms)
    codes = _empty_codes(rows, atoms.shape[0])
    objective = worst = largest = 0.0
    for begin in range(0, rows.shape[0], _CHUNK):
        data = rows[begin : begin + _CHUNK].double()
        coded = data @ inverse
        remainder = data - coded @ atoms
        objective += 0.5 * float(remainder.square().sum())
        worst = max(worst, float((remainder @ atoms.T).abs().max()))
        largest = max(largest, float(data.norm(dim=1).max()))
        codes[begin : begin + _CHUNK] = coded
    rounding = 1e-13 * largest * float(atoms.norm(dim=1).max()) * atoms.shape[0]
    return codes, objective, worst, rounding, 1, 0.0


def _with_active_sets(rows, atoms, l1, max_iter, tol, given):
    from . import _lasso_simd, _lasso_wide

    gram = (atoms @ atoms.T).numpy()
    problem = (gram, atoms.numpy(), atoms.T.contiguous().numpy(), _guess_problem(gram, _WIDE_SWEEPS), l1, tol, max_iter)
    codes, totals = _in_threads(_lasso_wide.solve_rows, _lasso_simd.BLOCK, 4, rows, given, atoms.shape[0], problem)
    objective, worst, rounding, steps = totals.T
    return (
        codes,
        float(objective.sum()),
        float(worst.max(initial=0.0)),
        tol * l1 + float(rounding.max(initial=0.0)),
        max(1, int(steps.max(initial=0))),
        1.0,
    )


def _in_threads(
    kernel: Callable, chunk: int, n_totals: int, rows: Tensor, given: Tensor | None, n_atoms: int, problem: tuple
) -> tuple[Tensor, np.ndarray]:
    """Run the kernel over all rows on torch's number of threads; the codes, and what it sums up of each chunk of rows.

    Plain threads rather than numba's parallel loops: the kernels release the lock, compile in half the time, may
    run twice at once, and leave no pool behind that a forked process would hang on. The kernels know float64 only,
    which halves what there is to compile; each thread widens and rounds the rows of two chunks at a time, in cache.
    """
    n_rows = rows.shape[0]
    codes = _empty_codes(rows, n_atoms)
    totals = np.zeros((-(-n_rows // chunk), n_totals))
    start = np.empty((0, n_atoms), codes.numpy().dtype) if given is None else given.numpy()
    arrays = (rows.numpy(), start, codes.numpy())
    share = _SHARE * chunk
    begins = iter(range(0, n_rows, share))

    def work() -> None:
        buffers = [np.empty((min(share, len(array)), array.shape[1])) for array in arrays]
        for begin in begins:  # one iterator for all threads: who is free takes the next share
            end = min(begin + share, n_rows)
            wanted = [array[begin:end] for array in arrays]
            parts = wanted
            if rows.dtype != torch.float64:
                parts = [buffer[: len(array)] for buffer, array in zip(buffers, wanted, strict=True)]
                parts[0][...], parts[1][...] = wanted[0], wanted[1]
            kernel(*parts, totals[begin // chunk : -(-end // chunk)], *problem)
            if rows.dtype != torch.float64:
                wanted[2][...] = parts[2]

    n_threads = min(torch.get_num_threads(), -(-n_rows // share))
    if n_threads <= 1:
        work()
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for worker in [pool.submit(work) for _ in range(n_threads)]:
                worker.result()
    return codes, totals


def _guess_problem(gram: np.ndarray, sweeps: int):
    """What coordinate descent in float32 needs: the Gram matrix off its diagonal, and one over the diagonal."""
    square = np.diagonal(gram)
    inverse = np.divide(1.0, square, out=np.zeros(square.size), where=square > 0).astype(np.float32)
    return (gram - np.diag(square)).astype(np.float32).reshape(-1), inverse, sweeps


def _with_table(rows, atoms, l1, max_iter, tol, given):
    from . import _lasso_pivot, _lasso_table

    (n_rows, d), n_atoms = rows.shape, atoms.shape[0]
    lanes = _lasso_table.lanes_for(n_atoms)
    gram = np.zeros((n_atoms, len(lanes)))
    gram[:, :n_atoms] = (atoms @ atoms.T).numpy()
    atoms_t = np.zeros((d, len(lanes)))
    atoms_t[:, :n_atoms] = atoms.numpy().T
    norm = float(np.sqrt(np.diagonal(gram).max()))

    problem = (
        (gram.reshape(-1), atoms_t.reshape(-1), norm, n_atoms, d),
        _lasso_table.build(gram, atoms_t),
        _guess_problem(
            gram[:, :n_atoms], (_SWEEPS if n_atoms <= d else _MANY_SWEEPS) if given is None else _WARM_SWEEPS
        ),
        l1,
        tol,
        max_iter,
        lanes,
    )
    n_totals = 2 * len(lanes) + 4
    codes, totals = _in_threads(_lasso_pivot.solve_rows, _lasso_pivot.CHUNK, n_totals, rows, given, n_atoms, problem)
    worst, value = totals[:, : len(lanes)], totals[:, len(lanes) : 2 * len(lanes)]
    energy, rounding, descents, steps = totals[:, 2 * len(lanes) :].T
    return (
        codes,
        float(0.5 * energy.sum() + value.sum()),
        float(worst.max(initial=0.0)),
        tol * l1 + float(rounding.max(initial=0.0)),
        max(1, int(steps.max(initial=0))),
        float(descents.sum()) / max(n_rows, 1),
    )
