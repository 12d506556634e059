"""Greedy pursuits, all rows at once: an atom joins at a time, by number of nonzeros, by error, or both.

Mallat and Zhang, "Matching Pursuits with Time-Frequency Dictionaries", IEEE Trans. Signal Processing 41(12), 1993; the
orthogonal form by Pati, Rezaiifar and Krishnaprasad, Asilomar 1993; the order recursive one by Natarajan, "Sparse
Approximate Solutions to Linear Systems", SIAM J. Comput. 24(2), 1995.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import over_rows
from ..errors import FiltersubError
from ..settings import check_whole
from .result import CodingResult, check_max_residual, check_problem, warn_of_missed

_CHUNK = 4096  # rows that a thread takes at a time


def orthogonal_matching_pursuit(
    rows: Tensor,
    atoms: Tensor,
    n_nonzero: int | None = None,
    *,
    max_residual: float | Tensor | None = None,
    nonnegative: bool = False,
    rule: str = "correlation",
) -> CodingResult:
    """Codes of few atoms a row: the best atom joins, then all of the row's atoms are refitted.

    Minimises ``1/2 ||rows - C atoms||_F^2`` greedily; each step solves least squares on the support exactly. A row is
    done when it has ``n_nonzero`` atoms, when its residual is at most ``max_residual``, or when no atom lowers it. A
    compiled kernel in float64 on torch's number of threads; rows on another device are copied to the CPU and their
    codes back.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d), float32 or float64
    atoms : Tensor of shape (n_atoms, d); need not be unit norm (correlations are normalised)
    n_nonzero : int from 1 to n_atoms, the largest support of a row; None (with max_residual): as many as it takes
    max_residual : float or Tensor (n_rows,), the largest ``||row - code atoms||_2`` to stop at; None: no such bound
    nonnegative : bool
        Only atoms that correlate positively join, and the refit is non-negative least squares (Lawson and Hanson, 1974;
        Bruckstein, Elad and Zibulevsky, IEEE Trans. Inf. Theory 54(11), 2008), which may send atoms away again.
    rule : "correlation", the textbook's: the atom closest in angle to the residual joins. "error": the atom that
        lowers the error most, refit included (order recursive matching pursuit; what spams calls omp)

    Returns
    -------
    CodingResult
        ``objective`` starts with the rows' own half square and has one entry for each atom added, ``optimality`` is the
        largest gradient left on the supports, ``details["rows_above_error"]`` counts the rows that miss
        ``max_residual``.

    Raises FiltersubError (a ValueError) when shapes disagree or a bound is out of range.
    Warns ConvergenceWarning when ``max_residual`` alone was asked for and the atoms cannot reach it.

    >>> orthogonal_matching_pursuit(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1).codes.tolist()
    [[3.0, 0.0]]
    """
    bounds = check_pursuit(rows, atoms, n_nonzero, max_residual)
    if rule not in ("correlation", "error"):
        raise FiltersubError(f"rule must be 'correlation' or 'error', got {rule!r}")
    limit = min(atoms.shape[0] if n_nonzero is None else n_nonzero, *atoms.shape)
    from ..engine.compile import make_ready  # brings numba, whose import takes long

    make_ready("omp", lambda: _solve(torch.zeros(1, 2), torch.ones(1, 2), None, 1, False, False))
    started = time.perf_counter()
    codes, outcomes, gains = _solve(rows, atoms, bounds, limit, rule == "error", nonnegative)
    codes = codes.to(rows.device)
    seconds = time.perf_counter() - started

    steps = int(np.flatnonzero(gains)[-1]) + 1 if gains.any() else 0
    square, gradient, missed = outcomes.T
    last = 0.5 * float(square.sum())
    # backwards from the residual itself: forwards, the rows' energy would swallow small ones
    objective = [*(last + 0.5 * np.cumsum(gains[:steps][::-1])[::-1]), last]
    n_missed = int(missed.sum())
    converged = n_missed == 0 or n_nonzero is not None
    warn_of_missed("omp", 0 if converged else n_missed, len(rows))
    optimality = float(gradient.max()) if len(rows) else 0.0
    details = {"rows_above_error": float(n_missed)}
    return CodingResult(codes, tuple(map(float, objective)), steps, seconds, optimality, converged, details)


def check_pursuit(
    rows: Tensor, atoms: Tensor, n_nonzero: int | None, max_residual: float | Tensor | None
) -> Tensor | None:
    """The bounds on the residuals, or None; FiltersubError where nothing says when to stop, or says it wrongly."""
    check_problem(rows, atoms)
    if n_nonzero is None and max_residual is None:
        raise FiltersubError("a pursuit needs n_nonzero, max_residual, or both: nothing says when to stop")
    if n_nonzero is not None:
        check_whole("the number of nonzeros", n_nonzero, 1, atoms.shape[0])
    return None if max_residual is None else check_max_residual(max_residual, rows)


def _solve(
    rows: Tensor, atoms: Tensor, bounds: Tensor | None, limit: int, by_error: bool, nonnegative: bool
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Codes; of each row the squared residual, largest gradient and whether it misses its bound; gain of each step."""
    from ..engine.pursuit import LANES, solve_rows

    (n_rows, d), n_atoms = rows.shape, atoms.shape[0]
    width = -(-n_atoms // LANES) * LANES
    atoms64 = atoms.detach().to("cpu", torch.float64).contiguous()
    gram, inverse, atoms_t = np.zeros((n_atoms, width)), np.zeros(width), np.zeros((d, width))
    gram[:, :n_atoms] = (atoms64 @ atoms64.T).numpy()
    square = np.diagonal(gram)
    np.divide(1.0, square, out=inverse[:n_atoms], where=square > 0)
    atoms_t[:, :n_atoms] = atoms64.numpy().T

    data = rows.detach().cpu().contiguous().numpy()
    stops = np.full(n_rows, -1.0) if bounds is None else bounds.cpu().contiguous().numpy()
    codes, outcomes = np.empty((n_rows, n_atoms), data.dtype), np.empty((n_rows, 3))
    gains = np.zeros((-(-n_rows // _CHUNK), limit * (2 if nonnegative else 1)))

    def kernel(number, rows, stops, codes, outcomes):
        problem = (atoms64.numpy(), atoms_t, gram, inverse, limit, by_error, nonnegative)
        solve_rows(rows, stops, codes, outcomes, *problem, gains[number])

    over_rows(kernel, _CHUNK, (data, stops, codes, outcomes), 2)
    return torch.from_numpy(codes), torch.from_numpy(outcomes), gains.sum(0)
