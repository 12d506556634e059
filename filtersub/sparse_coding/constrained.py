"""LASSO constrained by error, exactly: the smallest L1 norm within a distance of each row.

The solution is the penalised one at the penalty whose residual meets the bound. Along the path of penalties the squared
residual is piecewise linear in the squared penalty, so Newton's method from an exact solution lands on the answer
as soon as it is on the right piece; a bracket holds it in. Cf. van den Berg and Friedlander, "Probing the Pareto
Frontier for Basis Pursuit Solutions", SIAM J. Sci. Comput. 31(2), 2008.
"""

import time
import warnings

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import over_rows
from ..errors import ConvergenceWarning
from .lasso import lasso
from .pursuit import orthogonal_matching_pursuit
from .result import CodingResult, check_max_residual, check_problem, check_steps, warn_of_missed

_SHARE = 1024  # rows that a thread takes at a time
_CHUNK = 65536  # rows in float64 at once
_FEASIBLE = 1e-11  # of the row's norm: how far a bound must be above the smallest residual to be searched for
_BOTTOM = 1e-9  # of the largest penalty: from here the end of the path is tried
_CLOSE = 1e-10  # of the bound: a residual this near ends the search where no piece can be closed


def constrained_lasso(
    rows: Tensor,
    atoms: Tensor,
    max_residual: float | Tensor,
    *,
    nonnegative: bool = False,
    max_iter: int = 60,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Sparse codes of each row over fixed atoms, the sparsest (in L1) that stay within ``max_residual`` of it.

    For each row x:  ``min ||z||_1  subject to  ||x - z atoms||_2 <= max_residual``.  Works in float64 on the CPU.

    Parameters
    ----------
    rows, atoms, codes_init, nonnegative : see lasso; codes_init warms the first penalty
    max_residual : float or Tensor (n_rows,) >= 0; 0 is basis pursuit. A row whose norm is at most its bound gets zeros
    max_iter : int, penalties tried for a row at most; nearly all rows need fewer than ten

    Returns
    -------
    CodingResult
        ``objective`` is the sum of ``||z||_1``; ``optimality`` the largest violation, over the rows, of the penalised
        problem's optimality conditions at the penalty that meets the row's bound; ``details["rows_above_error"]``
        counts the rows that no codes bring within their bound: they get the codes that come nearest.

    Raises FiltersubError (a ValueError) when shapes disagree or a bound is negative.
    Warns ConvergenceWarning when a row cannot meet its bound, or when max_iter is spent.

    >>> constrained_lasso(torch.tensor([[3.0, 0.0]]), torch.eye(2), 1.0).codes.tolist()
    [[2.0, 0.0]]
    """
    check_problem(rows, atoms, codes_init)
    bounds = check_max_residual(max_residual, rows).cpu()
    check_steps(max_iter)
    from ..engine.compile import make_ready  # brings numba, whose import takes long

    make_ready(("path", atoms.shape[0]), lambda: _try_out(atoms.shape[0]))
    started = time.perf_counter()
    codes = torch.empty(rows.shape[0], atoms.shape[0], dtype=rows.dtype, device=rows.device)
    atoms64 = atoms.detach().cpu().double()
    objective, optimality, iterations, n_missed, n_open = 0.0, 0.0, 0, 0, 0
    for begin in range(0, rows.shape[0], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        given = None if codes_init is None else codes_init[part].detach().cpu().double()
        search = _Search(rows[part].detach().cpu().double(), atoms64, bounds[part], nonnegative, given)
        steps = 0
        while len(search.live) and steps < max_iter:
            search.step()
            steps += 1
        iterations = max(iterations, steps)
        codes[part] = search.solution
        objective += float(search.solution.abs().sum())
        optimality = max(optimality, float(search.violation.max()))
        n_missed, n_open = n_missed + int(search.missed.sum()), n_open + len(search.live)
    seconds = time.perf_counter() - started
    name = "lasso constrained by error"
    if n_open:
        message = f"{name} left {n_open} of {len(rows)} rows unfinished after {max_iter} penalties; raise max_iter"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    else:
        warn_of_missed(name, n_missed, len(rows))
    details = {"rows_above_error": float(n_missed)}
    return CodingResult(codes, (objective,), iterations, seconds, optimality, n_missed == n_open == 0, details)


def _try_out(n_atoms: int) -> None:
    """One step with so many atoms, which takes all the kernels that a search takes."""
    one = torch.ones(1, 1, dtype=torch.float64)
    _Search(2 * one, one.repeat(n_atoms, 1), one[0], False, None).step()


class _Search:
    """Of all rows: bounds, the solution found, its violation; of the ``live`` ones: penalty, bracket, codes."""

    def __init__(
        self, rows: Tensor, atoms: Tensor, bounds: Tensor, nonnegative: bool, codes_init: Tensor | None
    ) -> None:
        from ..engine.pursuit import LANES

        self.rows, self.atoms, self.nonnegative = rows, atoms, nonnegative
        norms, n_atoms = rows.norm(dim=1), atoms.shape[0]
        self.solution = torch.zeros(rows.shape[0], n_atoms, dtype=torch.float64)
        self.codes = self.solution.clone() if codes_init is None else codes_init.clone()
        self.violation = torch.zeros(rows.shape[0], dtype=torch.float64)
        smallest = self._smallest_residuals()
        self.missed = bounds < smallest - _FEASIBLE * norms
        # a bound at or below the smallest residual: the end of the path, which a bound below zero asks for
        self.bounds = torch.where(bounds <= smallest + _FEASIBLE * norms, -1.0, bounds)
        width = -(-n_atoms // LANES) * LANES
        self._gram, self._atoms_t = np.zeros((n_atoms, width)), np.zeros((rows.shape[1], width))
        self._gram[:, :n_atoms], self._atoms_t[:, :n_atoms] = (atoms @ atoms.T).numpy(), atoms.T.numpy()

        correlations = rows @ atoms.T
        top = (correlations if nonnegative else correlations.abs()).amax(1).clamp_min(0) if len(rows) else norms
        self.live = torch.nonzero((norms > bounds) & (top > 0))[:, 0]
        self.low, self.high = torch.zeros_like(top), top
        self.low_square, self.high_square = smallest.square(), norms.square()
        guess = torch.minimum(bounds / min(atoms.shape) ** 0.5, 0.5 * top)
        self.penalty = torch.where(self.bounds < 0, _BOTTOM * top, torch.maximum(guess, 1e-6 * top))

    def _smallest_residuals(self) -> Tensor:
        """Distance of each row to what the atoms can reach."""
        if self.nonnegative:
            codes = orthogonal_matching_pursuit(self.rows, self.atoms, self.atoms.shape[0], nonnegative=True).codes
            return (self.rows - codes @ self.atoms).norm(dim=1)
        return (self.rows - self.rows @ torch.linalg.pinv(self.atoms) @ self.atoms).norm(dim=1)

    def step(self) -> None:
        """Solve the live rows at their penalties, finish those whose piece of the path meets the bound."""
        from ..engine.lasso.constrained import DONE, PENALTY, RESIDUAL, VIOLATION

        live, penalty = self.live, self.penalty[self.live]
        scale = penalty[:, None]  # rows over their penalties all have the penalty one
        options = {"nonnegative": True} if self.nonnegative else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # each row is judged below
            found = lasso(self.rows[live] / scale, self.atoms, 1.0, codes_init=self.codes[live] / scale, **options)
        codes = found.codes * scale
        self.codes[live] = codes
        report, closed = self._close(live, codes, penalty)
        residual, bound = report[:, RESIDUAL], self.bounds[live]
        done = report[:, DONE] > 0
        self.violation[live] = report[:, VIOLATION]
        # where the atoms of a row depend on each other there is no piece to close: the codes themselves, then
        near = ((residual - bound).abs() <= _CLOSE * bound) | ((bound < 0) & (penalty <= _BOTTOM * self.high[live]))
        self.solution[live] = torch.where(done[:, None], closed, codes)
        open_ended = near & ~done
        self.violation[live[open_ended]] = found.optimality * penalty[open_ended]
        self._narrow(live, penalty, residual.square(), bound, report[:, PENALTY])
        self.live = live[~(done | near)]

    def _close(self, live: Tensor, codes: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        from ..engine.lasso.constrained import close_rows

        rows, bounds = self.rows[live].contiguous(), self.bounds[live]
        report, closed = np.empty((len(live), 4)), np.zeros(codes.shape)
        problem = (self.atoms.contiguous().numpy(), self._atoms_t, self._gram, self.nonnegative)
        arrays = (rows.numpy(), penalty.numpy(), bounds.numpy(), codes.contiguous().numpy(), report, closed)
        over_rows(lambda number, *parts: close_rows(*parts, *problem), _SHARE, arrays, 2)
        return torch.from_numpy(report), torch.from_numpy(closed)

    def _narrow(self, live: Tensor, penalty: Tensor, square: Tensor, bound: Tensor, newton: Tensor) -> None:
        """Tighten the brackets; the next penalty is Newton's where that lies inside, else that of the chord."""
        above = square > bound.square()
        self.high[live] = torch.where(above, penalty, self.high[live])
        self.high_square[live] = torch.where(above, square, self.high_square[live])
        self.low[live] = torch.where(above, self.low[live], penalty)
        self.low_square[live] = torch.where(above, self.low_square[live], square)
        low, high = self.low[live], self.high[live]
        part = (bound.square() - self.low_square[live]) / (self.high_square[live] - self.low_square[live])
        part = part.nan_to_num(0.5).clamp(0.01, 0.99)
        chord = (low.square() + part * (high.square() - low.square())).sqrt()
        inside = (newton > low) & (newton < high)
        self.penalty[live] = torch.where(inside, newton, chord)
