"""LASSO, exactly: hundreds of thousands of small problems that share one dictionary.

Few atoms (up to 13): every support has its row in a table of principal pivots. More atoms: the solution path or an
active set per row. All work in float64 and check the optimality conditions of each row; the kernels are those of
``filtersub.engine.lasso``. numba compiles them on the first call, never on import.
"""

import math
import time
import warnings

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning
from .result import CodingResult, check_penalty, check_problem, check_steps

TABLE_ATOMS = 13  # 2^13 sets, 13.6 MB: beyond, the table outgrows the caches and takes longer to build than to use
_CHUNK = 16384  # rows at once where torch does the work


def lasso(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    max_iter: int = 1000,
    tol: float = 1e-9,
    codes_init: Tensor | None = None,
    nonnegative: bool = False,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, to the last digit.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``  (a sum, not divided by n_rows).

    In float64, on as many threads as torch (``torch.set_num_threads``); results do not depend on their number. Rows on
    another device than the CPU are copied there and their codes back.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d), float32 or float64
    atoms : Tensor of shape (n_atoms, d); any norm, also zero, dependent or repeated
    l1_penalty : float >= 0; from ``max|rows @ atoms.T|`` upwards every code is zero, 0 is least squares (the codes of
        smallest norm where several fit equally well)
    max_iter : int, changes of the support at most, for a row that needs them one by one
    tol : float, each row's largest KKT violation may be ``tol * l1_penalty`` plus float64's rounding
    codes_init : Tensor of shape (n_rows, n_atoms), default none; near the solution it saves most of the work, and
        nothing else depends on it (where several codes are optimal, which of them)
    nonnegative : bool, default False; keep every code >= 0 (then from ``max(rows @ atoms.T)`` upwards all are zero)

    Returns
    -------
    CodingResult
        ``objective`` (one entry) and ``optimality`` belong to the float64 codes, before they are rounded to the dtype
        of the rows; rounding to float32 moves the gradient by about 1e-7 of the correlations. ``seconds`` leaves out
        the compilation. ``details`` has the ``fallback_fraction`` of rows, left to the slow and sure method.

    Raises FiltersubError (a ValueError) when shapes disagree (naming both), l1_penalty < 0, or rows are not float32 or
    float64.
    Warns ConvergenceWarning when some row is left above the tolerance.

    >>> lasso(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    >>> lasso(torch.tensor([[3.0, -2.0]]), torch.eye(2), 1.0, nonnegative=True).codes.tolist()
    [[2.0, 0.0]]
    """
    check_problem(rows, atoms, codes_init, look_at=("atoms",))  # whether the rows are finite shows in the objective
    l1_penalty = check_penalty(l1_penalty)
    check_steps(max_iter, tol)
    exact = l1_penalty > 0 or nonnegative
    if exact:
        make_ready(atoms.shape[0], rows.dtype)
    started = time.perf_counter()
    if exact:
        l1_neg = math.inf if nonnegative else l1_penalty
        found = _solve(rows, atoms, (l1_penalty, l1_neg, float(tol), int(max_iter)), codes_init)
    else:
        found = _least_squares(rows.detach().cpu(), atoms.detach().to("cpu", torch.float64))
    codes, objective, optimality, rounding, steps, fallback = found
    if not math.isfinite(objective):
        check_problem(rows, atoms, codes_init)
    codes = codes if rows.device.type == "cpu" else codes.to(rows.device)
    seconds = time.perf_counter() - started

    allowed = tol * l1_penalty + rounding
    converged = optimality <= allowed
    if not converged:
        warnings.warn(
            f"lasso left a KKT violation of {optimality:.2e} (tolerance {allowed:.2e}) after {steps} changes of the "
            "support; raise max_iter, or drop atoms that nearly repeat others",
            ConvergenceWarning,
            stacklevel=2,
        )
    return CodingResult(codes, (objective,), steps, seconds, optimality, converged, {"fallback_fraction": fallback})


def make_ready(n_atoms: int, dtype: torch.dtype) -> None:
    from ..engine.lasso import run  # brings numba, whose import takes long

    run.make_ready(n_atoms, n_atoms > TABLE_ATOMS, np.float32 if dtype == torch.float32 else np.float64)


def _solve(
    rows: Tensor, atoms: Tensor, settings: tuple[float, float, float, int], codes_init: Tensor | None
) -> tuple[Tensor, float, float, float, int, float]:
    from ..engine.lasso.run import solve_wide, solve_with_table

    solve = solve_with_table if len(atoms) <= TABLE_ATOMS else solve_wide
    data = _array(rows)
    start = np.empty((0, len(atoms)), data.dtype) if codes_init is None else _array(codes_init, data.dtype)
    codes, *known = solve(_array(atoms, np.float64), settings, data, start, torch.get_num_threads())
    return torch.from_numpy(codes), *known


def _array(tensor: Tensor, dtype: np.dtype | type | None = None) -> np.ndarray:
    """On the CPU and contiguous, in one call of torch: each costs a twentieth of what a small layer takes in all."""
    return np.ascontiguousarray(tensor.numpy(force=True), dtype)


def _least_squares(rows: Tensor, atoms: Tensor) -> tuple[Tensor, float, float, float, int, float]:
    """Codes of smallest norm, by the pseudo-inverse; the gradient is checked in float64."""
    inverse = torch.linalg.pinv(atoms)
    codes = rows.new_empty(rows.shape[0], atoms.shape[0])
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
