"""The table of solvers: what each minimises, what it can be asked for, and ``encode``, which calls any by name."""

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
from torch import Tensor

from ..errors import FiltersubError, check_name
from ..setting_fields import SOLVERS
from ..settings import check_whole
from .constrained import constrained_lasso
from .lasso import TABLE_ATOMS, lasso, make_ready
from .linear import least_squares_codes, ridge_codes
from .proximal import fista, ista
from .pursuit import matching_pursuit, orthogonal_matching_pursuit
from .reference import sklearn_lasso, spams_coordinate_descent, spams_lasso, spams_pursuit
from .result import CodingResult, check_penalty


def _lasso(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    max_residual: float | Tensor | None,
    nonnegative: bool,
    codes_init: Tensor | None,
) -> CodingResult:
    options = {"nonnegative": nonnegative, "codes_init": codes_init}
    if max_residual is None:
        return lasso(rows, atoms, l1_penalty, **options)
    return constrained_lasso(rows, atoms, max_residual, **options)


_TABLE: dict[str, Callable[..., CodingResult]] = {
    "lasso": _lasso,
    "fista": fista,
    "ista": ista,
    "spams": spams_lasso,
    "spams-cd": spams_coordinate_descent,
    "sklearn": sklearn_lasso,
    "mp": matching_pursuit,
    "omp": orthogonal_matching_pursuit,
    "ormp": partial(orthogonal_matching_pursuit, rule="error"),
    "spams-omp": spams_pursuit,
    "pca": least_squares_codes,
    "ridge": lambda rows, atoms, l1_penalty: ridge_codes(rows, atoms, l1_penalty),
}
_TAKES = {name: frozenset(signature(solve).parameters) for name, solve in _TABLE.items()}


def check_solver(solver: str) -> str:
    """The solver's name, or a FiltersubError that lists the names and the nearest one."""
    return check_name("solver", solver, SOLVERS)


def encode(
    rows: Tensor,
    atoms: Tensor,
    solver: str = "lasso",
    *,
    l1_penalty: float = 0.0,
    n_nonzero: int | None = None,
    max_residual: float | Tensor | None = None,
    nonnegative: bool = False,
    codes_init: Tensor | None = None,
) -> CodingResult:
    """Codes of rows (n_rows, d) over fixed atoms (n_atoms, d) by the solver of that name.

    ``l1_penalty`` is l in ``1/2 ||rows - C atoms||_F^2 + l ||C||_1``, for ridge in ``... + l/2 ||C||_F^2``;
    ``n_nonzero`` the largest support of a row; ``max_residual`` the largest ``||row - code atoms||_2`` a row may keep,
    one number or a Tensor (n_rows,); ``nonnegative`` keeps every code >= 0; ``codes_init`` warms the solvers that can
    use it. A setting that changes the problem and that the solver does not know (max_residual, nonnegative) is refused
    with a FiltersubError that names those which do; l1_penalty, n_nonzero and codes_init are left aside where they
    mean nothing.
    """
    kind, takes = SOLVERS[check_solver(solver)], _TAKES[solver]
    check_penalty(l1_penalty)
    if n_nonzero is not None:
        check_whole("n_nonzero", n_nonzero, 1)
    for name, asked in (("max_residual", max_residual is not None), ("nonnegative", nonnegative)):
        if asked and name not in takes:
            others = ", ".join(other for other in _TABLE if name in _TAKES[other])
            raise FiltersubError(f"solver {solver!r} does not take {name}; those that do: {others}")
    if kind == "support" and n_nonzero is None and max_residual is None:
        raise FiltersubError(f"solver {solver!r} needs the number of nonzeros a row may have, or max_residual")
    if kind == "penalty" and max_residual is not None and l1_penalty:
        raise FiltersubError(f"give solver {solver!r} either l1_penalty or max_residual, not both (got {l1_penalty})")
    settings = {
        "l1_penalty": l1_penalty,
        "n_nonzero": n_nonzero,
        "max_residual": max_residual,
        "nonnegative": nonnegative,
        "codes_init": codes_init,
    }
    return _TABLE[solver](rows, atoms, **{name: value for name, value in settings.items() if name in takes})


def warm_up() -> None:
    """Compile the kernels of all own solvers, or fetch them from numba's cache on disk, ahead of use."""
    for dtype in (torch.float32, torch.float64):
        for n_atoms in (2, 9, TABLE_ATOMS + 1):
            make_ready(n_atoms, dtype)
        one = torch.eye(2, dtype=dtype)
        orthogonal_matching_pursuit(one, one, 1)
