"""Other people's solvers behind our signature: spams (C++) and scikit-learn, to agree with and to race against.

spams has no plain matching pursuit. It takes one signal a column, in Fortran order and of one dtype; a C-ordered
(n, d) transposed is just that, so nothing is copied. All of spams runs on as many threads as torch has
(``torch.get_num_threads()``), scikit-learn's coordinate descent on one.
"""

import time
import warnings
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning, FiltersubError
from .pursuit import check_pursuit
from .result import (
    CodingResult,
    check_max_residual,
    check_penalty,
    check_problem,
    kkt_violation,
    lasso_objective,
    warn_of_missed,
)

_ERROR, _PENALTY = 1, 2  # spams' numbers of the constrained and the penalised form


def spams_lasso(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float = 0.0,
    *,
    max_residual: float | Tensor | None = None,
    nonnegative: bool = False,
) -> CodingResult:
    """LARS by spams (Mairal et al., JMLR 11, 2010), in the dtype of the rows; rows (n, d), atoms (m, d).

    Penalised, or with ``max_residual`` (one number or (n,), > 0) ``min ||z||_1 s.t. ||x - z D||_2 <= max_residual``. In
    float32 it is not exact, and where atoms repeat it may be wrong: both are told. Constrained, ``optimality`` is how
    far the worst residual is above its bound, and rows that the atoms cannot reach are not ``converged``.
    """
    spams = _import_spams("spams")
    check_problem(rows, atoms)
    check_penalty(l1_penalty)
    if len(rows) == 0:
        return _of_no_rows(rows, atoms)
    bounds, scale, form = None, 1.0, {"lambda1": l1_penalty, "mode": _PENALTY}
    if max_residual is not None:
        bounds = _positive_bounds(max_residual, rows)
        scale, form = bounds[:, None].to(rows), {"lambda1": 1.0, "mode": _ERROR}
    signals, dictionary = _columns(rows / scale), _columns(atoms.to(rows))
    started = time.perf_counter()
    found = spams.lasso(signals, dictionary, pos=nonnegative, numThreads=torch.get_num_threads(), **form)
    codes = _codes(found, rows) * scale
    seconds = time.perf_counter() - started
    if bounds is None:
        return _result_of("spams", rows, atoms, codes, l1_penalty, nonnegative, seconds)
    excess = (rows.double() - codes.double() @ atoms.double()).norm(dim=1) - bounds
    worst = float(excess.max().clamp_min(0))
    n_missed = int((excess > 1e-4 * bounds).sum())
    warn_of_missed("spams", n_missed, len(rows))
    objective = (float(codes.double().abs().sum()),)
    return CodingResult(codes, objective, 1, seconds, worst, n_missed == 0, {"rows_above_error": float(n_missed)})


def spams_coordinate_descent(rows: Tensor, atoms: Tensor, l1_penalty: float, *, tol: float = 1e-12) -> CodingResult:
    """Coordinate descent by spams, in float64 (in float32 it stalls far from the solution); unit-norm atoms only.

    Parameters: rows (n, d), atoms (m, d), l1_penalty > 0, ``tol`` of spams' own stopping rule.
    """
    spams = _import_spams("spams-cd")
    import scipy.sparse

    check_problem(rows, atoms)
    check_penalty(l1_penalty)
    if len(rows) == 0:
        return _of_no_rows(rows, atoms)
    norms = atoms.double().norm(dim=1)
    if bool(((norms - 1).abs() > 1e-5).any()):
        worst = float(norms[(norms - 1).abs().argmax()])
        raise FiltersubError(f"solver 'spams-cd' takes atoms of unit norm only, got one of {worst:g}; use 'spams'")
    # unit norm to the last digit, or spams refuses; the codes are scaled back, which moves them by rounding only
    signals, dictionary = _columns(rows.double()), _columns(atoms.double() / norms[:, None])
    start = scipy.sparse.csc_matrix((atoms.shape[0], rows.shape[0]), dtype=np.float64)
    started = time.perf_counter()
    settings = {"lambda1": l1_penalty, "mode": _PENALTY, "itermax": 100_000, "tol": tol}
    found = spams.cd(signals, dictionary, start, numThreads=torch.get_num_threads(), **settings)
    codes = (_codes(found, rows.double()) / norms).to(rows)
    return _result_of("spams-cd", rows, atoms, codes, l1_penalty, False, time.perf_counter() - started)


def spams_pursuit(
    rows: Tensor, atoms: Tensor, n_nonzero: int | None = None, *, max_residual: float | Tensor | None = None
) -> CodingResult:
    """Pursuit by spams, in the dtype of the rows; rows (n, d), atoms (m, d), unit norm or not.

    spams calls it omp, but it picks the atom that lowers the error most after the refit: the order recursive rule, our
    ``orthogonal_matching_pursuit(..., rule="error")``. Where atoms repeat it stops early; such rows are told.
    """
    spams = _import_spams("spams-omp")
    bounds = check_pursuit(rows, atoms, n_nonzero, max_residual)
    if bounds is not None:
        bounds = _positive_bounds(max_residual, rows)
    if len(rows) == 0:
        return _of_no_rows(rows, atoms)
    norms = atoms.to(rows).norm(dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    # spams takes one bound for all rows, so each is divided by its own
    scale = torch.ones_like(rows[:, :1]) if bounds is None else bounds[:, None].to(rows)
    signals, dictionary = _columns(rows / scale), _columns(atoms.to(rows) / norms[:, None])
    limit = min(atoms.shape) if n_nonzero is None else min(n_nonzero, *atoms.shape)
    # always with a bound: spams reads one, of whatever value, where none is given
    bound = 0.0 if bounds is None else 1.0
    started = time.perf_counter()
    found = spams.omp(signals, dictionary, L=limit, eps=bound, numThreads=torch.get_num_threads())
    codes = _codes(found, rows) * scale / norms
    seconds = time.perf_counter() - started

    residual = rows.double() - codes.double() @ atoms.double()
    missed = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    if bounds is not None:
        missed = residual.norm(dim=1) > bounds * (1 + 1e-4)
    cosines = ((residual @ atoms.double().T) / norms).abs().amax(1) / rows.double().norm(dim=1).clamp_min(1e-300)
    early = ((codes != 0).sum(1) < limit) & (cosines > 1e-5) & (missed if bounds is not None else ~missed)
    n_missed, n_early = int(missed.sum()), int(early.sum())
    if n_early:
        warnings.warn(
            f"spams-omp stopped early in {n_early} of {len(rows)} rows, as it does where atoms repeat; "
            "drop repeated atoms, or use solver 'ormp'",
            ConvergenceWarning,
            stacklevel=2,
        )
    elif n_nonzero is None:
        warn_of_missed("spams-omp", n_missed, len(rows))
    support = codes != 0
    objective, steps = (0.5 * float(residual.square().sum()),), int(support.sum(1).max())
    optimality = float(((residual @ atoms.double().T).abs() * support).max())
    converged = n_early == 0 and (n_missed == 0 or n_nonzero is not None)
    details = {"rows_above_error": float(n_missed)}
    return CodingResult(codes, objective, steps, seconds, optimality, converged, details)


def sklearn_lasso(
    rows: Tensor, atoms: Tensor, l1_penalty: float, *, tol: float = 1e-12, nonnegative: bool = False
) -> CodingResult:
    """Coordinate descent by scikit-learn, in float64 on one thread; rows (n, d), atoms (m, d). For small problems."""
    from sklearn.exceptions import ConvergenceWarning as TheirWarning
    from sklearn.linear_model import Lasso

    check_problem(rows, atoms)
    check_penalty(l1_penalty)
    if len(rows) == 0:
        return _of_no_rows(rows, atoms)
    dictionary = atoms.detach().cpu().double().numpy().T
    # scikit-learn divides the squared error by the number of samples, here d
    penalty = l1_penalty / rows.shape[1]
    model = Lasso(alpha=penalty, fit_intercept=False, tol=tol, max_iter=100_000, positive=nonnegative)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TheirWarning)  # we judge by the optimality conditions instead
        model.fit(np.asfortranarray(dictionary), rows.detach().cpu().double().numpy().T)
    seconds = time.perf_counter() - started
    codes = torch.from_numpy(np.atleast_2d(model.coef_)).to(rows)
    iterations = int(np.max(model.n_iter_))
    return _result_of("sklearn", rows, atoms, codes, l1_penalty, nonnegative, seconds, iterations)


def _of_no_rows(rows: Tensor, atoms: Tensor) -> CodingResult:
    return CodingResult(rows.new_zeros(0, len(atoms)), (0.0,), 0, 0.0, 0.0, True)


def _columns(matrix: Tensor) -> np.ndarray:
    """(d, n) in Fortran order: the same memory, where the matrix is on the CPU and contiguous."""
    return np.ascontiguousarray(matrix.detach().cpu().numpy()).T


def _codes(found, rows: Tensor) -> Tensor:
    """(n, m), dtype and device of the rows, from spams' sparse (m, n)."""
    return torch.from_numpy(found.T.toarray()).to(rows)


def _positive_bounds(max_residual: float | Tensor | None, rows: Tensor) -> Tensor:
    bounds = check_max_residual(max_residual, rows)
    if not bool((bounds > 0).all()):
        raise FiltersubError("spams needs max_residual > 0; the own solvers 'lasso' and 'omp' take 0 as well")
    return bounds


def _result_of(
    name: str,
    rows: Tensor,
    atoms: Tensor,
    codes: Tensor,
    l1_penalty: float,
    nonnegative: bool,
    seconds: float,
    iterations: int = 1,
) -> CodingResult:
    """The result, judged by the optimality conditions: within a thousandth of the penalty, or of rounding."""
    optimality = kkt_violation(rows, atoms, codes, l1_penalty, nonnegative=nonnegative)
    objective = lasso_objective(rows, atoms, codes, l1_penalty)
    size = float(rows.abs().max()) * float(atoms.norm(dim=1).max())
    allowed = max(1e-3 * l1_penalty, 64 * torch.finfo(rows.dtype).eps * size)
    converged = optimality <= allowed
    if not converged:
        warnings.warn(
            f"{name} left a KKT violation of {optimality:.1e} (allowed {allowed:.1e}); give float64 rows, or use "
            "solver 'lasso', which is exact",
            ConvergenceWarning,
            stacklevel=3,
        )
    return CodingResult(codes, (objective,), iterations, seconds, optimality, converged)


def _import_spams(solver: str) -> ModuleType:
    try:
        import spams
    except ImportError:
        raise FiltersubError(
            f"solver {solver!r} needs the package spams-bin: pip install 'filtersub[spams]'; "
            "the own solvers 'lasso' and 'omp' need nothing more"
        ) from None
    return spams
