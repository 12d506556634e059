"""Solvers on the same rows and atoms: how near the optimum each comes, and in what time."""

import warnings
from collections.abc import Sequence
from statistics import median

import pandas as pd
from torch import Tensor

from .. import sparse_coding
from ..errors import FiltersubError
from ..settings import MOST, check_each, check_number, check_whole
from ..sparse_coding import SOLVERS, CodingResult, check_solver, encode, kkt_violation, lasso_objective

#: Solvers of many equal steps, by the step counts at which their progress is looked at.
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_STEPWISE = {"ista": sparse_coding.ista, "fista": sparse_coding.fista}
_LONG = 1.0  # seconds from which on a coding is timed once
_WARM_ROWS = 256  # coded once before the clock runs: compilation and first touch are not what is compared


def solver_table(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    solvers: Sequence[str] | None = None,
    n_nonzero: int | None = None,
    repeats: int = 3,
) -> pd.DataFrame:
    """Every solver by name on one problem, cold, at its own default tolerance.

    All are judged by the LASSO's objective ``1/2 ||rows - C atoms||_F^2 + l ||C||_1``, also those that minimise
    something else (``solves``), in float64 from the codes that they return.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d); float64 shows what each solver can reach
    atoms : Tensor of shape (n_atoms, d)
    l1_penalty : float > 0
    solvers : names in sparse_coding.SOLVERS, default all
    n_nonzero : int, largest support for pursuits, default the mean support at the optimum, rounded, at least 1
    repeats : int >= 1, codings timed in turn; one that takes more than a second is not repeated

    Returns
    -------
    DataFrame
        One row a solver: solver, solves ("penalty", "support" or "linear"), objective, relative_gap (to the smallest
        objective found), kkt_over_penalty (largest KKT violation over l), relative_error, density, iterations, seconds
        (median), lowest_seconds, highest_seconds, rows_per_second, converged, note (why a solver did not run, else "").

    Raises FiltersubError when a name is unknown, a number is none or out of range, or no solver ran (with the reason).
    """
    l1_penalty = _check_problem(l1_penalty, n_nonzero, repeats)
    names = list(SOLVERS) if solvers is None else [check_solver(name) for name in solvers]
    if n_nonzero is None:
        support = _quietly(sparse_coding.lasso, rows, atoms, l1_penalty).codes != 0
        n_nonzero = max(1, round(float(support.sum(1).double().mean())))
    found, norm = [], float(rows.double().norm())
    runs, notes = _timed(names, rows, atoms, l1_penalty, n_nonzero, repeats)
    if not runs:
        raise FiltersubError("no solver ran: " + "; ".join(f"{name}: {note}" for name, note in notes.items()))
    for name in names:
        row = {"solver": name, "solves": SOLVERS[name], "note": notes.get(name, "")}
        if name in runs:
            first, seconds = runs[name][0], sorted(run.seconds for run in runs[name])
            residual = rows.double() - first.codes.double() @ atoms.double()
            row |= {
                "objective": lasso_objective(rows, atoms, first.codes, l1_penalty),
                "kkt_over_penalty": kkt_violation(rows, atoms, first.codes, l1_penalty) / l1_penalty,
                "relative_error": float(residual.norm()) / norm if norm > 0 else 0.0,
                "density": first.density,
                "iterations": first.iterations,
                "seconds": median(seconds),
                "lowest_seconds": seconds[0],
                "highest_seconds": seconds[-1],
                "rows_per_second": rows.shape[0] / median(seconds),
                "converged": first.converged,
            }
        found.append(row)
    table = pd.DataFrame(found)
    table["relative_gap"] = table["objective"] / table["objective"].min() - 1
    order = ["solver", "solves", "objective", "relative_gap", "kkt_over_penalty", "relative_error", "density"]
    order += ["iterations", "seconds", "lowest_seconds", "highest_seconds", "rows_per_second", "converged", "note"]
    return table[order]


def gap_table(
    rows: Tensor,
    atoms: Tensor,
    l1_penalty: float,
    *,
    solvers: Sequence[str] | None = None,
    n_nonzero: int | None = None,
    steps: Sequence[int] = STEPS,
    repeats: int = 3,
    table: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Objective gap against time: a line of points for solvers of many equal steps, one point for each of the others.

    Each point is a coding of its own from zeros, stopped after that many steps: nothing but the solver is timed.

    Parameters
    ----------
    rows, atoms, l1_penalty, solvers, n_nonzero, repeats : see solver_table
    steps : numbers of steps at which stepwise solvers (ista, fista) are stopped; a line ends where one converges
    table : a solver_table of the same problem, made here where it is not given

    Returns
    -------
    DataFrame
        One row a point: solver, solves, stepwise (bool), iterations, seconds (median), objective, relative_gap (to the
        smallest objective in both tables; not below 0).
    """
    l1_penalty = _check_problem(l1_penalty, n_nonzero, repeats)
    steps = check_each("steps", steps, check_whole, 1)
    if table is None:
        table = solver_table(rows, atoms, l1_penalty, solvers=solvers, n_nonzero=n_nonzero, repeats=repeats)
    points = []
    for row in table.dropna(subset=["objective"]).itertuples():
        shared = {"solver": row.solver, "solves": row.solves}
        solve = _STEPWISE.get(row.solver)
        if solve is None:
            own = {"stepwise": False, "iterations": row.iterations, "seconds": row.seconds}
            points.append({**shared, **own, "objective": row.objective})
            continue
        for count in steps:
            runs: list[CodingResult] = []
            while not runs or (len(runs) < repeats and runs[0].seconds < _LONG):
                runs.append(_quietly(solve, rows, atoms, l1_penalty, max_iter=count, tol=0.0))
            own = {"stepwise": True, "iterations": runs[0].iterations, "seconds": median(r.seconds for r in runs)}
            points.append({**shared, **own, "objective": lasso_objective(rows, atoms, runs[0].codes, l1_penalty)})
            if runs[0].iterations < count:
                break
    found = pd.DataFrame(points)
    best = min(found["objective"].min(), table["objective"].min())
    return found.assign(relative_gap=(found["objective"] / best - 1).clip(lower=0.0))


def _check_problem(l1_penalty: float, n_nonzero: int | None, repeats: int) -> float:
    """The penalty as a float."""
    check_number("l1_penalty", l1_penalty)
    if not l1_penalty > 0:
        raise FiltersubError(f"l1_penalty must be positive where solvers are compared, got {l1_penalty}")
    if n_nonzero is not None:
        check_whole("n_nonzero", n_nonzero, 1)
    check_whole("repeats", repeats, 1, MOST)
    return float(l1_penalty)


def _timed(
    names: list[str], rows: Tensor, atoms: Tensor, l1_penalty: float, n_nonzero: int, repeats: int
) -> tuple[dict[str, list[CodingResult]], dict[str, str]]:
    """Codings of each solver, the solvers taking turns, and why some did not run."""
    options = {"l1_penalty": l1_penalty, "n_nonzero": n_nonzero}
    runs: dict[str, list[CodingResult]] = {}
    notes = {}
    for name in names:
        try:
            _quietly(encode, rows[:_WARM_ROWS], atoms, name, **options)
            runs[name] = []
        except FiltersubError as error:  # a package that is not installed, atoms that it cannot take
            notes[name] = str(error)
    for _ in range(repeats):
        for name in runs:
            if not runs[name] or runs[name][0].seconds < _LONG:
                runs[name].append(_quietly(encode, rows, atoms, name, **options))
    return runs, notes


def _quietly(solve, *arguments, **options) -> CodingResult:
    """Without the warning that a solver stopped short: here it is meant to, and the table says what it left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return solve(*arguments, **options)
