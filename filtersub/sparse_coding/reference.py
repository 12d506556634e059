"""Other people's solvers behind our signature: spams (C++ LARS) and scikit-learn, to agree with and to race against."""

from __future__ import annotations

import time
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ..errors import FiltersubError
from .result import CodingResult, check_penalty, check_problem, kkt_violation, lasso_objective


def spams_lasso(rows: Tensor, atoms: Tensor, l1_penalty: float, *, threads: int = -1) -> CodingResult:
    """LARS by spams (Mairal et al., JMLR 11, 2010), computed in the rows' dtype; rows (n, d), atoms (m, d)."""
    spams = _import_spams()
    check_problem(rows, atoms)
    check_penalty(l1_penalty)
    # spams wants one signal a column, Fortran-ordered: a C-ordered (n, d) transposed is just that
    signals, dictionary = (np.ascontiguousarray(t.detach().cpu().numpy()).T for t in (rows, atoms))
    started = time.perf_counter()
    found = spams.lasso(signals, np.asfortranarray(dictionary), lambda1=l1_penalty, mode=2, numThreads=threads)
    seconds = time.perf_counter() - started
    codes = torch.from_numpy(np.asarray(found.todense()).T.copy()).to(rows)
    return _judged(rows, atoms, codes, l1_penalty, seconds)


def sklearn_lasso(rows: Tensor, atoms: Tensor, l1_penalty: float, *, tol: float = 1e-12) -> CodingResult:
    """Coordinate descent by scikit-learn in float64; rows (n, d), atoms (m, d). Slow: for small problems only."""
    from sklearn.linear_model import Lasso

    check_problem(rows, atoms)
    check_penalty(l1_penalty)
    dictionary = atoms.detach().cpu().double().numpy().T
    # scikit-learn divides the squared error by the number of samples, here d
    model = Lasso(alpha=l1_penalty / rows.shape[1], fit_intercept=False, tol=tol, max_iter=100_000)
    started = time.perf_counter()
    model.fit(np.asfortranarray(dictionary), rows.detach().cpu().double().numpy().T)
    seconds = time.perf_counter() - started
    codes = torch.from_numpy(np.atleast_2d(model.coef_)).to(rows)
    return _judged(rows, atoms, codes, l1_penalty, seconds)


def _judged(rows: Tensor, atoms: Tensor, codes: Tensor, l1_penalty: float, seconds: float) -> CodingResult:
    optimality = kkt_violation(rows, atoms, codes, l1_penalty)
    objective = lasso_objective(rows, atoms, codes, l1_penalty)
    return CodingResult(codes, (objective,), 1, seconds, optimality, optimality <= 1e-3 * max(l1_penalty, 1e-12))


def _import_spams() -> ModuleType:
    try:
        import spams
    except ImportError:
        raise FiltersubError(
            "solver 'spams' needs the package spams-bin: pip install 'filtersub[spams]'; "
            "solver 'lasso' needs nothing more"
        ) from None
    return spams
