"""Orthogonal matching pursuit, all rows at once, on any torch device.

Mallat and Zhang, "Matching Pursuits with Time-Frequency Dictionaries", IEEE Trans. Signal Processing 41(12), 1993; the
orthogonal form by Pati, Rezaiifar and Krishnaprasad, Asilomar 1993.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..errors import FiltersubError
from .result import CodingResult, check_problem, lasso_objective


def orthogonal_matching_pursuit(rows: Tensor, atoms: Tensor, n_nonzero: int) -> CodingResult:
    """Codes of at most ``n_nonzero`` atoms a row: the atom that correlates best joins, then all are refitted.

    Minimises ``1/2 ||rows - C atoms||_F^2`` greedily; each step solves least squares on the support exactly.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d)
    atoms : Tensor of shape (n_atoms, d); need not be unit norm (correlations are normalised)
    n_nonzero : int from 1 to n_atoms

    Returns a CodingResult whose ``optimality`` is the largest gradient left on the supports.
    Raises FiltersubError (a ValueError) when shapes disagree or n_nonzero is out of range.

    >>> orthogonal_matching_pursuit(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1).codes.tolist()
    [[3.0, 0.0]]
    """
    check_problem(rows, atoms)
    n_atoms = atoms.shape[0]
    if not 1 <= n_nonzero <= n_atoms:
        raise FiltersubError(
            f"the number of nonzeros must be from 1 to the number of atoms, {n_atoms}; got {n_nonzero}"
        )
    started = time.perf_counter()
    work_rows, work_atoms = rows.double(), atoms.double()
    gram = work_atoms @ work_atoms.T
    correlations = work_rows @ work_atoms.T
    norms = gram.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    negligible = 1e-12 * float(correlations.abs().max()) if rows.numel() else 0.0

    codes = torch.zeros_like(correlations)
    support = torch.zeros(rows.shape[0], 0, dtype=torch.long, device=rows.device)
    live = torch.arange(rows.shape[0], device=rows.device)  # rows that still gain from one more atom
    objective: list[float] = [0.5 * float(work_rows.square().sum())]
    for _ in range(min(n_nonzero, rows.shape[1])):
        gradient = (correlations[live] - codes[live] @ gram).abs() / norms
        gradient.scatter_(1, support, -1.0)
        best, chosen = gradient.max(dim=1)
        gains = best > negligible
        live, support = live[gains], torch.cat([support, chosen[:, None]], dim=1)[gains]
        if live.numel() == 0:
            break
        codes[live] = codes[live].scatter(1, support, _refit(gram, correlations[live], support))
        objective.append(lasso_objective(rows, atoms, codes, 0.0))
    seconds = time.perf_counter() - started
    on_support = (codes @ gram - correlations).abs() * (codes != 0)
    optimality = float(on_support.max()) if rows.numel() else 0.0
    return CodingResult(codes.to(rows.dtype), tuple(objective), len(objective) - 1, seconds, optimality, True)


def _refit(gram: Tensor, correlations: Tensor, support: Tensor) -> Tensor:
    """Least squares on each row's support: (n, s) codes."""
    blocks = gram[support[:, :, None], support[:, None, :]]
    targets = correlations.gather(1, support)
    # a relative ridge of 1e-14 keeps supports with dependent atoms solvable without moving the others
    ridge = 1e-14 * gram.diagonal().max() * torch.eye(support.shape[1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(blocks + ridge, targets[:, :, None])[:, :, 0]
