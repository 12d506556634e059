"""The LASSO constrained by error: on the bound to the last digit, optimal, and spams' own optimum."""

import pytest
import torch
from conftest import planted
from scipy.optimize import linprog, nnls

from filtersub.errors import ConvergenceWarning
from filtersub.sparse_coding import constrained_lasso, encode, spams_lasso


def problem(n_atoms, d, n_rows=150):
    rows, atoms, _ = planted(n_rows, n_atoms, d, min(3, n_atoms), seed=n_atoms)
    noise = torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = rows + 0.1 * noise
    nearest = (rows - rows @ torch.linalg.pinv(atoms) @ atoms).norm(dim=1)
    return rows, atoms, nearest


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.9])
@pytest.mark.parametrize(("n_atoms", "d"), [(5, 9), (9, 9), (13, 9), (20, 9), (40, 16)])
def test_residuals_lie_on_the_bound_and_the_norm_is_that_of_spams(n_atoms, d, share):
    rows, atoms, nearest = problem(n_atoms, d)
    bounds = nearest + share * (rows.norm(dim=1) - nearest)
    found = constrained_lasso(rows, atoms, bounds)
    assert found.converged
    residual = (rows - found.codes @ atoms).norm(dim=1)
    torch.testing.assert_close(residual, bounds, rtol=1e-10, atol=0)
    reference = spams_lasso(rows, atoms, max_residual=bounds)
    torch.testing.assert_close(found.codes.abs().sum(1), reference.codes.abs().sum(1), rtol=1e-5, atol=1e-6)
    assert found.objective[-1] == pytest.approx(float(found.codes.abs().sum()))
    assert found.optimality < 1e-9


@pytest.mark.parametrize(("n_atoms", "d"), [(5, 9), (9, 9), (20, 9)])
def test_nonnegative_codes_on_the_bound(n_atoms, d):
    rows, atoms, _ = problem(n_atoms, d, n_rows=60)
    nearest = torch.tensor([nnls(atoms.T.numpy(), row.numpy())[1] for row in rows], dtype=torch.float64)
    bounds = nearest + 0.2 * (rows.norm(dim=1) - nearest) + 1e-6
    found = constrained_lasso(rows, atoms, bounds, nonnegative=True)
    assert found.converged
    assert found.codes.min() >= 0
    inside = rows.norm(dim=1) > bounds
    assert inside.sum() > 30
    torch.testing.assert_close((rows - found.codes @ atoms).norm(dim=1)[inside], bounds[inside], rtol=1e-9, atol=0)
    reference = spams_lasso(rows, atoms, max_residual=bounds, nonnegative=True)
    torch.testing.assert_close(found.codes.sum(1), reference.codes.sum(1), rtol=1e-5, atol=1e-6)


def test_it_is_the_penalised_solution_at_some_penalty():
    """Each row's residual, on the support, has one correlation: the penalty; off it, none is larger."""
    rows, atoms, nearest = problem(12, 9)
    codes = constrained_lasso(rows, atoms, nearest + 0.5).codes
    gradient = (rows - codes @ atoms) @ atoms.T
    active = codes != 0
    penalty = torch.where(active, gradient * codes.sign(), 0).amax(1, keepdim=True)
    torch.testing.assert_close((gradient * codes.sign())[active], penalty.expand_as(codes)[active], atol=1e-10, rtol=0)
    assert (gradient.abs() <= penalty + 1e-10).all()


def test_no_error_at_all_is_basis_pursuit():
    """A linear program."""
    rows, atoms, _ = problem(20, 9, n_rows=15)
    found = constrained_lasso(rows, atoms, 0.0)
    torch.testing.assert_close(found.codes @ atoms, rows, atol=1e-8, rtol=0)
    both_signs = torch.cat([atoms, -atoms]).T.numpy()
    for row, code in zip(rows, found.codes, strict=True):
        best = linprog([1.0] * 40, A_eq=both_signs, b_eq=row.numpy(), bounds=(0, None))
        assert float(code.abs().sum()) == pytest.approx(best.fun, rel=1e-7)


def test_rows_within_their_bound_get_zeros_and_those_out_of_reach_are_told():
    rows, atoms, nearest = problem(4, 9)
    bounds = rows.norm(dim=1).clone()
    bounds[3] = 0.5 * nearest[3]
    with pytest.warns(ConvergenceWarning, match="1 of 150 rows with a residual above max_residual"):
        found = constrained_lasso(rows, atoms, bounds)
    assert not found.converged
    assert found.details["rows_above_error"] == 1
    assert found.codes.any(1).nonzero().flatten().tolist() == [3]
    assert float((rows[3] - found.codes[3] @ atoms).norm()) == pytest.approx(float(nearest[3]), rel=1e-8)


def test_repeated_atoms_and_a_warm_start_change_nothing():
    rows, atoms, nearest = problem(9, 9)
    alone = constrained_lasso(rows, atoms, nearest + 0.7)
    doubled = constrained_lasso(rows, torch.cat([atoms, atoms[:2], -atoms[2:3]]), nearest + 0.7)
    assert doubled.converged
    assert doubled.objective[-1] == pytest.approx(alone.objective[-1], rel=1e-8)
    start = alone.codes.clone()
    warm = constrained_lasso(rows, atoms, nearest + 0.7, codes_init=start)
    assert torch.equal(start, alone.codes), "what is given stays as it was"
    torch.testing.assert_close(warm.codes, alone.codes, atol=1e-9, rtol=0)


def test_float32_rows_are_solved_in_float64():
    rows, atoms, nearest = problem(9, 9)
    found = encode(rows.float(), atoms.float(), "lasso", max_residual=nearest + 0.4)
    assert found.codes.dtype == torch.float32
    assert found.optimality < 1e-9
    residual = (rows - found.codes.double() @ atoms).norm(dim=1)
    torch.testing.assert_close(residual, nearest + 0.4, rtol=1e-4, atol=0)


def test_too_few_penalties_are_told():
    rows, atoms, nearest = problem(9, 9)
    with pytest.warns(ConvergenceWarning, match="unfinished after 1 penalties; raise max_iter"):
        assert not constrained_lasso(rows, atoms, nearest + 0.1, max_iter=1).converged
