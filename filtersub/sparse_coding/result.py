"""The result of every solver, and measures of its quality."""

import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning, FiltersubError
from ..markup import codes_html, explore_hint, facts_html
from ..percentages import percentage
from ..printable import counted
from ..settings import check_number, check_whole


@dataclass(frozen=True)
class CodingResult:
    """Sparse codes of n rows over m atoms.

    Attributes
    ----------
    codes : Tensor of shape (n_rows, n_atoms), dtype and device of the rows
    objective : tuple of float
        ``1/2 ||rows - codes atoms||_F^2 + l1_penalty ||codes||_1`` (a sum over rows, not divided by n_rows) after each
        iteration; the last one belongs to ``codes``. One entry where the solver is direct. The penalty is that of the
        solver: none for pursuits and least squares, squared for ridge. Constrained by error, ``||codes||_1`` alone.
    iterations : int
        The solver's own: proximal steps, changes of the support, atoms added; 1 where it is direct.
    seconds : float
        Wall-clock time of the coding alone.
    optimality : float
        How far the worst row is from what its solver promises, in the units of the gradient ``(codes atoms - rows)
        atoms^T``. Penalised solvers: the largest violation of the optimality (KKT) conditions (compare with
        ``l1_penalty``; constrained by error, the largest over the rows of the violation at the penalty that meets
        the bound). Orthogonal pursuit and linear codes: the largest gradient of what they minimise (on the support,
        for a pursuit). Matching pursuit: the largest gradient left anywhere, which only many steps drive to zero.
    converged : bool
        Whether the solver's stopping rule was met; where it was not, a ConvergenceWarning names the fix.
    details : dict of str to float
        What one solver alone has to tell.
    """

    codes: Tensor
    objective: tuple[float, ...]
    iterations: int
    seconds: float
    optimality: float
    converged: bool
    details: dict[str, float] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """A table of what was found, for notebooks."""
        n_rows, n_atoms = self.codes.shape
        facts = [
            ("codes", f"{counted(n_rows, 'row')} over {counted(n_atoms, 'atom')}, {percentage(self.density)} not zero"),
            ("objective", f"{self.objective[-1]:.6g}" if self.objective else ""),
            ("largest violation", f"{self.optimality:.1e}" + ("" if self.converged else ", not converged")),
            ("took", f"{counted(self.iterations, 'iteration')}, {self.seconds:.3g} s"),
        ]
        codes = codes_html(self.codes, "row {}".format) + explore_hint()
        return facts_html("Sparse codes", [*facts, *self.details.items()], codes)

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


def kkt_violation(rows: Tensor, atoms: Tensor, codes: Tensor, l1_penalty: float, *, nonnegative: bool = False) -> float:
    """Largest violation, over rows and atoms, of the LASSO's optimality conditions, in float64.

    With the gradient ``g = (codes atoms - rows) atoms^T`` a solution has ``g = -l1_penalty sign(z)`` where the
    code z is not zero and ``|g| <= l1_penalty`` where it is. With ``nonnegative`` a zero code only needs
    ``g >= -l1_penalty``, and a negative code is a violation by its own size (times the squared norm of its atom).
    """
    if codes.numel() == 0:
        return 0.0
    atoms64, codes64 = atoms.double(), codes.double()
    gradient = (codes64 @ atoms64 - rows.double()) @ atoms64.T
    on_support = (gradient + l1_penalty * codes64.sign()).abs()
    off_support = ((-gradient if nonnegative else gradient.abs()) - l1_penalty).clamp_min(0)
    violation = torch.where(codes64 != 0, on_support, off_support)
    if nonnegative:
        violation = violation.maximum((-codes64).clamp_min(0) * atoms64.square().sum(1))
    return float(violation.max())


def largest_penalty(rows: Tensor, atoms: Tensor, *, nonnegative: bool = False) -> float:
    """The L1 penalty from which on every code is zero: ``max |rows atoms^T|``, of the rows (n, d) and atoms (m, d).

    With ``nonnegative``, the largest positive correlation. For atoms not yet known but of unit norm it is at most the
    largest norm of a row.

    >>> largest_penalty(torch.tensor([[3.0, 0.5], [-4.0, 0.0]]), torch.eye(2))
    4.0
    """
    check_problem(rows, atoms)
    if rows.numel() == 0:
        return 0.0
    largest = 0.0
    for part in rows.split(65536):  # no second copy of the rows' size
        low, high = torch.aminmax(part.double() @ atoms.to(rows.device, torch.float64).T)
        largest = max(largest, float(high), 0.0 if nonnegative else -float(low))
    return largest


def check_problem(
    rows: Tensor, atoms: Tensor, codes_init: Tensor | None = None, *, look_at: tuple[str, ...] = ("rows", "atoms")
) -> None:
    """Raise FiltersubError where rows (n, d), atoms (m, d) and codes (n, m) do not fit or are not finite.

    A solver whose sums tell whether some of them are finite leaves those out of ``look_at``, and asks ``check_finite``.
    """
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
        if tensor.dtype not in (torch.float32, torch.float64):
            raise FiltersubError(f"{name} must be float32 or float64, got {tensor.dtype}; use {name}.float()")
        # a finite sum is quick proof; one that is not may be an overflow of finite numbers
        if name in look_at and not math.isfinite(_sum(tensor)):
            check_finite(name, tensor)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise FiltersubError where the tensor holds NaN or infinity."""
    if not bool(torch.isfinite(tensor).all()):
        raise FiltersubError(f"{name} holds NaN or infinity")


def _sum(tensor: Tensor) -> float:
    """On the CPU by numpy: torch would leave its threads spinning, in the way of the solver's own, and takes 0.2 ms to
    sum up a few atoms where nothing called it in the last milliseconds."""
    if tensor.device.type != "cpu":
        return float(tensor.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        return float(tensor.detach().numpy().sum())


def check_penalty(l1_penalty: float) -> float:
    """The penalty as a float; FiltersubError unless it is a finite number >= 0."""
    check_number("the L1 penalty", l1_penalty, 0)
    return float(l1_penalty)  # of an int torch takes 64 bits at most


def check_steps(max_iter: int, tol: float = 0.0) -> None:
    """Raise FiltersubError unless a solver's steps are a whole number and its tolerance is finite, none negative."""
    check_whole("max_iter", max_iter, 0)
    check_number("tol", tol, 0)


def check_max_residual(max_residual: float | Tensor, rows: Tensor) -> Tensor:
    """Bounds on the residual norm of each row, a float64 Tensor (n_rows,) on its device; FiltersubError otherwise."""
    if not isinstance(max_residual, Tensor | np.ndarray):
        check_number("max_residual", max_residual)
    bounds = torch.as_tensor(max_residual, dtype=torch.float64, device=rows.device)
    if bounds.ndim > 1 or (bounds.ndim == 1 and bounds.shape[0] != rows.shape[0]):
        raise FiltersubError(
            f"max_residual must be one number or a tensor of n_rows = {rows.shape[0]}, got shape {tuple(bounds.shape)}"
        )
    if bounds.numel() and not bool((torch.isfinite(bounds) & (bounds >= 0)).all()):
        worst = bounds.flatten()[~(torch.isfinite(bounds) & (bounds >= 0)).flatten()][0]
        raise FiltersubError(f"max_residual must be finite and >= 0, got {float(worst)}")
    return bounds.expand(rows.shape[0])


_FIX = "which these atoms cannot reach; raise max_residual, or give more atoms"


def warn_of_missed(name: str, n_missed: int, n_rows: int, fix: str = _FIX) -> None:
    """Warn where rows keep a residual above their bound."""
    if n_missed:
        message = f"{name} left {n_missed} of {n_rows} rows with a residual above max_residual, {fix}"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
