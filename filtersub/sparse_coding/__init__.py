"""Sparse codes for given atoms: one row of a table per solver, one result type.

``encode(rows, atoms, solver, l1_penalty=..., n_nonzero=...)`` calls any of them by name.
"""

from __future__ import annotations

import difflib

from torch import Tensor

from ..errors import FiltersubError
from .fista import fista
from .lasso import lasso
from .linear import least_squares_codes, principal_atoms
from .pursuit import orthogonal_matching_pursuit
from .reference import sklearn_lasso, spams_lasso
from .result import CodingResult, kkt_violation, lasso_objective

#: name -> what it solves: "penalty" (needs l1_penalty), "support" (needs n_nonzero) or "linear" (needs neither)
SOLVERS: dict[str, str] = {
    "lasso": "penalty",
    "fista": "penalty",
    "spams": "penalty",
    "sklearn": "penalty",
    "omp": "support",
    "pca": "linear",
}
_PENALISED = {"fista": fista, "lasso": lasso, "spams": spams_lasso, "sklearn": sklearn_lasso}
_WARM = {"fista", "lasso"}


def check_solver(solver: str) -> str:
    """The solver's name, or a FiltersubError that lists the names and the nearest one."""
    if solver in SOLVERS:
        return solver
    near = difflib.get_close_matches(str(solver), SOLVERS, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise FiltersubError(f"unknown solver {solver!r}{meant} Known: {', '.join(SOLVERS)}")


def encode(
    rows: Tensor,
    atoms: Tensor,
    solver: str = "lasso",
    *,
    l1_penalty: float = 0.0,
    n_nonzero: int | None = None,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Codes of rows (n_rows, d) over fixed atoms (n_atoms, d) by the solver of that name.

    ``l1_penalty`` is l in ``1/2 ||rows - C atoms||_F^2 + l ||C||_1`` (lasso, fista, spams, sklearn); ``n_nonzero`` the
    largest support of a row (omp); pca is least squares and takes neither. ``codes_init`` warms the solvers that can
    use it.
    """
    kind = SOLVERS[check_solver(solver)]
    if kind == "linear":
        return least_squares_codes(rows, atoms)
    if kind == "support":
        if n_nonzero is None:
            raise FiltersubError(f"solver {solver!r} needs the number of nonzeros a row may have")
        return orthogonal_matching_pursuit(rows, atoms, n_nonzero)
    if solver in _WARM:
        return _PENALISED[solver](rows, atoms, l1_penalty, codes_init=codes_init)
    return _PENALISED[solver](rows, atoms, l1_penalty)


__all__ = [
    "SOLVERS",
    "CodingResult",
    "check_solver",
    "encode",
    "fista",
    "kkt_violation",
    "lasso",
    "lasso_objective",
    "least_squares_codes",
    "orthogonal_matching_pursuit",
    "principal_atoms",
    "sklearn_lasso",
    "spams_lasso",
]
