"""Matching pursuit, all rows at once, on any torch device.

Mallat and Zhang, "Matching Pursuits with Time-Frequency Dictionaries", IEEE Trans. Signal Processing 41(12), 1993.
"""

from __future__ import annotations

import time
import warnings

import torch
from torch import Tensor

from ..errors import ConvergenceWarning
from .pursuit import check_pursuit
from .result import CodingResult, check_steps

_NEGLIGIBLE = 1e-24  # of a row's energy: a step that gains no more is rounding
_SHARE = 65536  # rows at a time


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
    the same atom may be chosen again. Works in float64.

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
    if not converged:
        warnings.warn(
            f"mp left {n_missed} of {rows.shape[0]} rows with a residual above max_residual after {taken} steps; "
            "raise max_iter or max_residual, give more atoms, or use solver 'omp', which refits",
            ConvergenceWarning,
            stacklevel=2,
        )
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
