"""Linear codes: the codes are a fixed linear map of the rows, C = rows V, so they need not even be stored."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..errors import FiltersubError
from .result import CodingResult, check_problem, lasso_objective


def principal_atoms(rows: Tensor, n_atoms: int) -> Tensor:
    """The n_atoms leading right singular vectors of the rows (not centred), orthonormal, (n_atoms, d).

    No other atoms of this number reconstruct the rows better (Eckart and Young, 1936). Computed from the d x d second
    moment in float64; each atom's largest entry is positive. Raises FiltersubError when n_atoms exceeds d.
    """
    if not 1 <= n_atoms <= rows.shape[1]:
        raise FiltersubError(f"principal components are at most the patch size, {rows.shape[1]}; got {n_atoms} atoms")
    moment = second_moment(rows)
    _, vectors = torch.linalg.eigh(moment)
    return vectors.flip(1).T[:n_atoms].to(rows.dtype)


def second_moment(rows: Tensor, others: Tensor | None = None, chunk: int = 65536) -> Tensor:
    """``rows^T others`` in float64 (others: rows), summed over chunks so that no second copy of the rows is made."""
    others = rows if others is None else others
    total = torch.zeros(rows.shape[1], others.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], chunk):
        total += rows[start : start + chunk].double().T @ others[start : start + chunk].double()
    return total


def least_squares_codes(rows: Tensor, atoms: Tensor) -> CodingResult:
    """Codes of least squares (and least norm, where atoms depend on each other): ``rows pinv(atoms)``.

    Parameters: rows (n_rows, d), atoms (n_atoms, d). For orthonormal atoms this is ``rows atoms^T``.
    """
    check_problem(rows, atoms)
    started = time.perf_counter()
    codes = rows @ torch.linalg.pinv(atoms.double()).to(rows.dtype)
    seconds = time.perf_counter() - started
    gradient = (codes.double() @ atoms.double() - rows.double()) @ atoms.double().T
    optimality = float(gradient.abs().max()) if rows.numel() else 0.0
    return CodingResult(codes, (lasso_objective(rows, atoms, codes, 0.0),), 1, seconds, optimality, True)
