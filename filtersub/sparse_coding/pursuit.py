"""Greedy pursuits, all rows at once: an atom joins at a time, by number of nonzeros, by error, or both.

Mallat and Zhang, "Matching Pursuits with Time-Frequency Dictionaries", IEEE Trans. Signal Processing 41(12), 1993; the
orthogonal form by Pati, Rezaiifar and Krishnaprasad, Asilomar 1993; the order recursive one by Natarajan, "Sparse
Approximate Solutions to Linear Systems", SIAM J. Comput. 24(2), 1995.
"""

import time

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import over_rows
from ..errors import FiltersubError
from ..settings import check_whole
from .result import CodingResult, check_max_residual, check_problem, check_steps, warn_of_missed

_CHUNK = 4096  # rows that a thread takes at a time
_NEGLIGIBLE = 1e-24  # of a row's energy: a step that gains no more is rounding
_SHARE = 65536  # rows at a time


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
        check_whole(f"the number of nonzeros (of {len(atoms)} atoms)", n_nonzero, 1, len(atoms))
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


def matching_pursuit(
    rows: Tensor,
    atoms: Tensor,
    n_nonzero: int | None = None,
    *,
    max_residual: float | Tensor | None = None,
    nonnegative: bool = False,
    max_iter: int = 1000,
) -> CodingResult:
    """Codes of few atoms a row: each step takes the residual's part along the best atom, and refits nothing.

    Lowers ``1/2 ||rows - C atoms||_F^2`` greedily. In each step a row moves the one code that lowers its error most;
    the same atom may be chosen again. Works in float64, on any torch device.

    Parameters, errors and warnings are those of ``orthogonal_matching_pursuit``, but for:

    Parameters
    ----------
    n_nonzero : steps of a row at most, so that it has at most that many nonzeros
    nonnegative : bool
        No step takes a code below zero; codes that went too far may come back (as the away steps of Locatello et
        al., "Greedy Algorithms for Cone Constrained Optimization", NIPS 2017), or the pursuit would stop short.
    max_iter : int, steps at most where ``n_nonzero`` is not given

    Returns
    -------
    CodingResult
        ``objective`` starts with the rows' own half square and has one entry for each step; ``optimality`` is the
        largest gradient left (non-negative: that some code could still follow); ``details["rows_above_error"]`` counts
        the rows that miss ``max_residual``.

    >>> matching_pursuit(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1).codes.tolist()
    [[3.0, 0.0]]
    """
    bounds = check_pursuit(rows, atoms, n_nonzero, max_residual)
    check_steps(max_iter)
    started = time.perf_counter()
    codes = torch.zeros(rows.shape[0], atoms.shape[0], dtype=rows.dtype, device=rows.device)
    gains = torch.zeros(max_iter if n_nonzero is None else n_nonzero, dtype=torch.float64, device=rows.device)
    left, optimality, n_missed = 0.0, 0.0, 0
    atoms64 = atoms.to(rows.device, torch.float64)
    for begin in range(0, rows.shape[0], _SHARE):
        part = slice(begin, begin + _SHARE)
        stops = None if bounds is None else bounds[part]
        codes[part], square, gradient, missed = _pursue(rows[part].double(), atoms64, stops, gains, nonnegative)
        left, optimality, n_missed = left + square, max(optimality, gradient), n_missed + missed
    seconds = time.perf_counter() - started

    taken = int((gains > 0).sum())
    later = gains[:taken].flip(0).cumsum(0).flip(0)
    objective = [0.5 * (left + float(gain)) for gain in later] + [0.5 * left]
    converged = n_missed == 0 or n_nonzero is not None
    fix = f"after {taken} steps; raise max_iter or max_residual, give more atoms, or use solver 'omp', which refits"
    warn_of_missed("mp", 0 if converged else n_missed, len(rows), fix)
    details = {"rows_above_error": float(n_missed)}
    return CodingResult(codes, tuple(objective), taken, seconds, optimality, converged, details)


def _pursue(
    rows: Tensor, atoms: Tensor, bounds: Tensor | None, gains: Tensor, nonnegative: bool
) -> tuple[Tensor, float, float, int]:
    """Codes, squared residual, largest gradient, rows that miss their bound; adds to the gain of each step."""
    gram, energy = atoms @ atoms.T, rows.square().sum(1)
    square = gram.diagonal()
    inverse = torch.where(square > 0, 1 / square, 0.0)
    gradient, codes = rows @ atoms.T, torch.zeros(rows.shape[0], atoms.shape[0], dtype=rows.dtype, device=rows.device)
    live, left = torch.arange(rows.shape[0], device=rows.device), energy.clone()
    for step in range(len(gains)):
        wanted = left[live] > (_NEGLIGIBLE * energy[live] if bounds is None else bounds[live].square())
        live = live[wanted]
        moves = gradient[live] * inverse
        if nonnegative:
            moves = torch.maximum(moves, -codes[live])
        gain, atom = (moves * (2 * gradient[live] - moves * square)).max(1)
        live, gain, atom = (x[gain > _NEGLIGIBLE * energy[live]] for x in (live, gain, atom))
        if live.numel() == 0:
            break
        move = gradient[live, atom] * inverse[atom]
        if nonnegative:
            move = torch.maximum(move, -codes[live, atom])
        codes[live, atom] += move
        gradient[live] -= move[:, None] * gram[atom]
        exact = (rows[live] - codes[live] @ atoms).square().sum(1)
        gains[step] += (left[live] - exact).sum()
        left[live] = exact
    if nonnegative:
        gradient = torch.where(codes > 0, gradient.abs(), gradient.clamp_min(0))
    missed = 0 if bounds is None else int((left.sqrt() > bounds).sum())
    optimality = float(gradient.abs().max()) if gradient.numel() else 0.0
    return codes, float(left.sum()), optimality, missed
