"""Linear codes: the codes are a fixed linear map of the rows, C = rows V, so they need not even be stored."""

import math
import time

import torch
from torch import Tensor

from ..errors import FiltersubError
from .result import CodingResult, check_finite, check_penalty, check_problem

_CHUNK = 8192  # rows judged at a time, in float64
_ORTHONORMAL = 1e-4  # largest norm of atoms' deviation from it that two steps of Newton's make up for, 1e-16


def principal_atoms(rows: Tensor, n_atoms: int) -> Tensor:
    """The n_atoms leading right singular vectors of the rows (not centred), orthonormal, (n_atoms, d).

    No other atoms of this number reconstruct the rows better (Eckart and Young, 1936). Computed from the d x d second
    moment in float64; each atom's largest entry is positive. Raises FiltersubError when n_atoms exceeds d.
    """
    if not 1 <= n_atoms <= rows.shape[1]:
        raise FiltersubError(f"principal components are at most the patch size, {rows.shape[1]}; got {n_atoms} atoms")
    moment = second_moment(rows)
    _, vectors = torch.linalg.eigh(moment)
    leading = vectors.flip(1).T[:n_atoms]
    peaks = leading.gather(1, leading.abs().argmax(1, keepdim=True))
    return torch.where(peaks < 0, -leading, leading).to(rows.dtype)


def second_moment(rows: Tensor, others: Tensor | None = None, chunk: int = 65536) -> Tensor:
    """``rows^T others`` in float64 (others: rows), summed over chunks so that no second copy of the rows is made."""
    others = rows if others is None else others
    total = torch.zeros(rows.shape[1], others.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], chunk):
        total += rows[start : start + chunk].double().T @ others[start : start + chunk].double()
    return total


def least_squares_codes(rows: Tensor, atoms: Tensor) -> CodingResult:
    """Codes of least squares (and least norm, where atoms depend on each other): ``rows pinv(atoms)``.

    Parameters: rows (n_rows, d), float32 or float64; atoms (n_atoms, d). For orthonormal atoms this is
    ``rows atoms^T``. ``optimality`` is the largest gradient of the squared error, of the codes as rounded to the dtype
    of the rows. Raises FiltersubError (a ValueError) when shapes disagree.
    """
    check_problem(rows, atoms, look_at=("atoms",))
    started = time.perf_counter()
    return _coded(rows, atoms, _pseudo_inverse(atoms.double()), 0.0, started)


def ridge_codes(rows: Tensor, atoms: Tensor, l2_penalty: float) -> CodingResult:
    """Codes of ridge regression: ``C = rows atoms^T (atoms atoms^T + l2_penalty I)^-1``.

    Minimises over C:  ``1/2 ||rows - C atoms||_F^2 + l2_penalty / 2 ||C||_F^2``; 0 is ``least_squares_codes``.
    Parameters, dtypes and errors as there; ``objective`` and ``optimality`` include the penalty.

    >>> ridge_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0).codes.tolist()
    [[1.5, 0.25]]
    """
    check_problem(rows, atoms, look_at=("atoms",))
    l2_penalty = check_penalty(l2_penalty)
    if l2_penalty == 0:
        return least_squares_codes(rows, atoms)
    started = time.perf_counter()
    atoms64 = atoms.double()
    regularised = atoms64 @ atoms64.T + l2_penalty * torch.eye(len(atoms), dtype=torch.float64, device=atoms.device)
    return _coded(rows, atoms, torch.linalg.solve(regularised, atoms64).T, float(l2_penalty), started)


def _coded(rows: Tensor, atoms: Tensor, coder: Tensor, l2_penalty: float, started: float) -> CodingResult:
    """``rows coder`` as a result; coder (d, n_atoms) in float64."""
    rows, atoms = rows.detach(), atoms.detach()
    codes = rows @ coder.detach().to(rows)
    seconds = time.perf_counter() - started
    if not math.isfinite(float(codes.sum())):  # a finite sum is quick proof, another may be an overflow
        check_finite("rows", rows)
    residuals, squares, optimality = _measured(rows, atoms, codes, l2_penalty)
    return CodingResult(codes, (0.5 * residuals + 0.5 * l2_penalty * squares,), 1, seconds, optimality, True)


def _pseudo_inverse(atoms: Tensor) -> Tensor:
    """Of atoms (m, d) in float64, as (d, m).

    Orthonormal but for rounding, as principal atoms are, they need no SVD: two steps of Newton's iteration from
    ``atoms^T`` (Schulz, 1933) square the deviation twice.
    """
    twice = 2.0 * torch.eye(len(atoms), dtype=atoms.dtype, device=atoms.device)
    gram = atoms @ atoms.T
    if len(atoms) > atoms.shape[1] or not float((gram - 0.5 * twice).norm()) <= _ORTHONORMAL:
        return torch.linalg.pinv(atoms)
    inverse = atoms.T @ (twice - gram)
    return inverse @ (twice - atoms @ inverse)


def _measured(rows: Tensor, atoms: Tensor, codes: Tensor, l2_penalty: float) -> tuple[float, float, float]:
    """Squared residuals, squared codes, largest gradient."""
    atoms = atoms.to(rows.device, torch.float64)
    totals = torch.zeros(3, dtype=torch.float64, device=rows.device)  # there until the end: no waiting for the device
    share = _CHUNK if rows.device.type == "cpu" else 32 * _CHUNK
    for begin in range(0, rows.shape[0], share):
        part = slice(begin, begin + share)
        coded = codes[part].double()
        left = torch.addmm(rows[part].double(), coded, atoms, alpha=-1)
        gradient = torch.addmm(coded, left, atoms.T, beta=-l2_penalty)
        totals[0] += left.square().sum()
        totals[1] += coded.square().sum()
        totals[2] = totals[2].maximum(gradient.abs().max())
    residuals, squares, largest = totals.tolist()
    return residuals, squares, largest
