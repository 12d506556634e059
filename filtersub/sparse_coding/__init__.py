"""Sparse codes for given atoms: one row of a table per solver, one result type.

``encode(rows, atoms, solver, l1_penalty=..., n_nonzero=..., max_residual=...)`` calls any of them by name.
"""

from ..setting_fields import SOLVERS
from .constrained import constrained_lasso
from .lasso import lasso
from .linear import least_squares_codes, principal_atoms, ridge_codes
from .proximal import fista, ista
from .pursuit import matching_pursuit, orthogonal_matching_pursuit
from .reference import sklearn_lasso, spams_coordinate_descent, spams_lasso, spams_pursuit
from .result import CodingResult, kkt_violation, largest_penalty, lasso_objective
from .solvers import check_solver, encode, warm_up

__all__ = [
    "SOLVERS",
    "CodingResult",
    "check_solver",
    "constrained_lasso",
    "encode",
    "fista",
    "ista",
    "kkt_violation",
    "largest_penalty",
    "lasso",
    "lasso_objective",
    "least_squares_codes",
    "matching_pursuit",
    "orthogonal_matching_pursuit",
    "principal_atoms",
    "ridge_codes",
    "sklearn_lasso",
    "spams_coordinate_descent",
    "spams_lasso",
    "spams_pursuit",
    "warm_up",
]
