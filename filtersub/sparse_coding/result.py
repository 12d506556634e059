"""What every solver returns, and how its quality is judged, whoever computed it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import FiltersubError


@dataclass(frozen=True)
class CodingResult:
    """Sparse codes of n rows over m atoms.

    Attributes
    ----------
    codes : Tensor of shape (n_rows, n_atoms), dtype and device of the rows
    objective : tuple of float
        ``1/2 ||rows - codes atoms||_F^2 + l1_penalty ||codes||_1`` (a sum over rows, not divided by n_rows) after each
        iteration; the last one belongs to ``codes``. One entry where the solver is direct.
    iterations : int
        The solver's own: proximal steps, sweeps, atoms added; 1 where it is direct.
    seconds : float
        Wall-clock time of the coding alone.
    optimality : float
        Largest violation of the optimality (KKT) conditions over all rows, in the units of the gradient
        (compare with ``l1_penalty``); for least squares on a support, the largest gradient on that support.
    converged : bool
        Whether ``optimality`` met the solver's tolerance.
    """

    codes: Tensor
    objective: tuple[float, ...]
    iterations: int
    seconds: float
    optimality: float
    converged: bool
    details: dict[str, float] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Fraction of nonzero codes."""
        return float((self.codes != 0).double().mean()) if self.codes.numel() else 0.0


def lasso_objective(rows: Tensor, atoms: Tensor, codes: Tensor, l1_penalty: float) -> float:
    """``1/2 ||rows - codes atoms||_F^2 + l1_penalty ||codes||_1``, accumulated in float64.

    >>> lasso_objective(torch.tensor([[3.0, 0.5]]), torch.eye(2), torch.tensor([[2.0, 0.0]]), 1.0)
    2.625
    """
    residual = rows.double() - codes.double() @ atoms.double()
    return float(0.5 * residual.square().sum() + l1_penalty * codes.double().abs().sum())


def kkt_violation(rows: Tensor, atoms: Tensor, codes: Tensor, l1_penalty: float) -> float:
    """Largest violation, over rows and atoms, of the LASSO's optimality conditions, in float64.

    With the gradient ``g = (codes atoms - rows) atoms^T`` a solution has ``g = -l1_penalty sign(z)`` where the
    code z is not zero and ``|g| <= l1_penalty`` where it is.
    """
    if codes.numel() == 0:
        return 0.0
    atoms64 = atoms.double()
    gradient = (codes.double() @ atoms64 - rows.double()) @ atoms64.T
    on_support = (gradient + l1_penalty * codes.double().sign()).abs()
    off_support = (gradient.abs() - l1_penalty).clamp_min(0)
    return float(torch.where(codes != 0, on_support, off_support).max())


def check_problem(rows: Tensor, atoms: Tensor, codes_init: Tensor | None = None) -> None:
    """Raise FiltersubError where rows (n, d), atoms (m, d) and codes (n, m) do not fit or are not finite."""
    if rows.ndim != 2 or atoms.ndim != 2 or rows.shape[1] != atoms.shape[1]:
        raise FiltersubError(
            f"rows must be (n_rows, d) and atoms (n_atoms, d) with one d, "
            f"got {tuple(rows.shape)} and {tuple(atoms.shape)}"
        )
    if atoms.shape[0] == 0:
        raise FiltersubError("atoms is empty; at least one atom is needed")
    if codes_init is not None and codes_init.shape != (rows.shape[0], atoms.shape[0]):
        raise FiltersubError(
            f"codes_init must be (n_rows, n_atoms) = {(rows.shape[0], atoms.shape[0])}, got {tuple(codes_init.shape)}"
        )
    for name, tensor in (("rows", rows), ("atoms", atoms)):
        if not bool(torch.isfinite(tensor).all()):
            raise FiltersubError(f"{name} holds NaN or infinity")


def check_penalty(l1_penalty: float) -> None:
    """Raise FiltersubError unless the penalty is a finite number >= 0."""
    if not 0 <= l1_penalty < float("inf"):
        raise FiltersubError(f"the L1 penalty must be a finite number >= 0, got {l1_penalty}")
