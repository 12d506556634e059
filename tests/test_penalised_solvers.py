"""ISTA, FISTA and the reference solvers: one optimum, met by all; lasso has tests/test_lasso.py of its own."""

import pytest
import torch
from conftest import planted

from filtersub.errors import ConvergenceWarning
from filtersub.sparse_coding import (
    fista,
    ista,
    kkt_violation,
    lasso,
    lasso_objective,
    sklearn_lasso,
    spams_coordinate_descent,
    spams_lasso,
)

ROWS, ATOMS, _ = planted(200, 9, 9, 3)
EXACT = {
    "lasso": lasso,
    "fista": lambda *problem, **options: fista(*problem, tol=1e-12, max_iter=20_000, **options),
    "spams": spams_lasso,
    "spams-cd": spams_coordinate_descent,
    "sklearn": sklearn_lasso,
}


@pytest.mark.parametrize("l1_penalty", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("n_atoms", [4, 9, 14])
def test_all_meet_at_one_optimum(n_atoms, l1_penalty):
    rows, atoms, _ = planted(40, n_atoms, 9, 3, seed=n_atoms)
    best = sklearn_lasso(rows, atoms, l1_penalty).objective[-1]
    for name, solve in EXACT.items():
        result = solve(rows, atoms, l1_penalty)
        assert result.converged, name
        assert kkt_violation(rows, atoms, result.codes, l1_penalty) < 1e-5 * l1_penalty, name
        assert result.objective[-1] == pytest.approx(best, rel=1e-9), name


@pytest.mark.parametrize("l1_penalty", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("n_atoms", [4, 9, 14])
def test_all_meet_at_one_nonnegative_optimum(n_atoms, l1_penalty):
    rows, atoms, _ = planted(40, n_atoms, 9, 3, seed=n_atoms)
    best = sklearn_lasso(rows, atoms, l1_penalty, nonnegative=True)
    free = sklearn_lasso(rows, atoms, l1_penalty)
    assert best.objective[-1] > free.objective[-1], "the constraint binds here"
    for name in ("lasso", "fista", "spams", "sklearn"):
        result = EXACT[name](rows, atoms, l1_penalty, nonnegative=True)
        assert result.converged, name
        assert result.codes.min() >= 0, name
        assert kkt_violation(rows, atoms, result.codes, l1_penalty, nonnegative=True) < 1e-5 * l1_penalty, name
        assert result.objective[-1] == pytest.approx(best.objective[-1], rel=1e-9), name


@pytest.mark.parametrize("solve", [fista, lasso, spams_lasso, sklearn_lasso])
def test_atoms_of_any_norm(solve):
    scale = torch.linspace(0.3, 3, 9, dtype=torch.float64)[:, None]
    result = solve(ROWS[:50], ATOMS * scale, 0.1)
    assert kkt_violation(ROWS[:50], ATOMS * scale, result.codes, 0.1) < 1e-3


@pytest.mark.parametrize("nonnegative", [False, True])
def test_ista_descends_in_every_step(nonnegative):
    result = ista(ROWS, ATOMS, 0.05, nonnegative=nonnegative, tol=1e-5)
    assert result.converged
    assert len(result.objective) == result.iterations + 1
    # rows that are solved leave the sum once, which rounds
    assert all(
        later <= earlier * (1 + 1e-13) for earlier, later in zip(result.objective, result.objective[1:], strict=False)
    )
    assert result.objective[0] == pytest.approx(0.5 * float(ROWS.square().sum()))


def test_acceleration_needs_fewer_steps():
    slow, fast = (solve(ROWS, ATOMS, 0.05, tol=1e-5) for solve in (ista, fista))
    assert fast.iterations < 0.5 * slow.iterations
    assert fast.objective[-1] == pytest.approx(slow.objective[-1], rel=1e-6)


@pytest.mark.parametrize("solve", [ista, fista])
def test_the_history_is_that_of_the_codes(solve):
    """Stopped after k steps, the codes have the k-th objective of the whole run."""
    whole = solve(ROWS, ATOMS, 0.05, tol=1e-4)
    for steps in (1, 7, 23):
        with pytest.warns(ConvergenceWarning, match=f"stopped after {steps} steps.*raise max_iter"):
            stopped = solve(ROWS, ATOMS, 0.05, tol=1e-4, max_iter=steps)
        assert stopped.iterations == steps
        assert not stopped.converged
        assert stopped.optimality == pytest.approx(kkt_violation(ROWS, ATOMS, stopped.codes, 0.05))
        value = lasso_objective(ROWS, ATOMS, stopped.codes, 0.05)
        assert whole.objective[steps] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("solve", [ista, fista])
def test_they_start_where_they_are_told(solve):
    solved = solve(ROWS, ATOMS, 0.1, tol=1e-5)
    again = solve(ROWS, ATOMS, 0.1, tol=1e-4, codes_init=solved.codes)
    assert again.iterations == 0
    assert torch.equal(again.codes, solved.codes)


def test_spams_tells_its_optimality_and_says_where_float32_fails():
    assert spams_lasso(ROWS, ATOMS, 0.1).optimality < 1e-8
    rows, atoms = (1e4 * ROWS).float(), ATOMS.float()
    with pytest.warns(ConvergenceWarning, match="give float64 rows, or use solver 'lasso'"):
        result = spams_coordinate_descent(rows.double(), atoms.double(), 1e-3, tol=0.1)
    assert not result.converged
