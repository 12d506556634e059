"""Linear codes: best subspaces, least squares of least norm, ridge's stationarity."""

import copy
import gc
import pickle
import weakref
from dataclasses import fields, replace

import pytest
import torch
from conftest import planted

from filtersub.errors import FiltersubError
from filtersub.sparse_coding import (
    SOLVERS,
    CodingResult,
    encode,
    lasso_objective,
    least_squares_codes,
    principal_atoms,
    ridge_codes,
)

ROWS, ATOMS, _ = planted(200, 9, 9, 3)


def test_principal_atoms_are_the_best_subspace():
    atoms = principal_atoms(ROWS, 4)
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    singular = torch.linalg.svdvals(ROWS)
    result = least_squares_codes(ROWS, atoms)
    assert result.objective[-1] == pytest.approx(0.5 * float(singular[4:].square().sum()), rel=1e-10)
    assert (atoms.gather(1, atoms.abs().argmax(1, keepdim=True)) > 0).all()
    with pytest.raises(FiltersubError, match="at most the patch size, 9; got 10"):
        principal_atoms(ROWS, 10)


@pytest.mark.parametrize(("n_atoms", "d"), [(1, 1), (4, 9), (9, 9), (14, 9), (17, 16), (20, 33), (70, 80)])
@pytest.mark.parametrize("l2_penalty", [0.0, 0.3])
def test_objective_and_gradient_are_those_of_the_codes(n_atoms, d, l2_penalty):
    """Against autograd, for short and long rows and atoms: they take different ways."""
    rows, atoms, _ = planted(50, n_atoms, d, min(3, n_atoms))
    rows += torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    result = ridge_codes(rows, atoms, l2_penalty)
    codes = result.codes.clone().requires_grad_()
    objective = 0.5 * (rows - codes @ atoms).square().sum() + 0.5 * l2_penalty * codes.square().sum()
    objective.backward()
    assert codes.grad.abs().max() < 1e-11
    assert result.optimality < 1e-11
    assert result.objective[-1] == pytest.approx(float(objective.detach()), rel=1e-12)


@pytest.mark.parametrize(("n_atoms", "d"), [(4, 9), (70, 80)])
def test_rounding_to_float32_is_seen(n_atoms, d):
    rows, atoms, _ = planted(50, n_atoms, d, 3)
    result = least_squares_codes(rows.float(), atoms.float())
    left = (result.codes.double() @ atoms.float().double() - rows.float().double()) @ atoms.float().double().T
    assert 1e-9 < result.optimality < 1e-4
    assert result.optimality == pytest.approx(float(left.abs().max()), rel=0.5, abs=1e-6)
    assert result.objective[-1] == pytest.approx(
        lasso_objective(rows.float(), atoms.float(), result.codes, 0.0), rel=1e-3, abs=1e-9
    )


def test_dependent_atoms_get_the_codes_of_least_norm():
    atoms = torch.cat([ATOMS[:3], ATOMS[:3]])
    codes = least_squares_codes(ROWS, atoms).codes
    torch.testing.assert_close(codes[:, :3], codes[:, 3:], atol=1e-10, rtol=0)
    torch.testing.assert_close(codes[:, :3] * 2, least_squares_codes(ROWS, ATOMS[:3]).codes, atol=1e-10, rtol=0)


def test_ridge_shrinks_towards_zero_from_least_squares():
    norms = [float(encode(ROWS, ATOMS, "ridge", l1_penalty=weight).codes.norm()) for weight in (0.0, 0.01, 1.0, 100.0)]
    assert norms == sorted(norms, reverse=True)
    torch.testing.assert_close(ridge_codes(ROWS, ATOMS, 0.0).codes, least_squares_codes(ROWS, ATOMS).codes)
    with pytest.raises(FiltersubError, match="penalty must not be negative, got -"):
        ridge_codes(ROWS, ATOMS, -1.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_results_are_plain_values(solver):
    """They pickle and replace, and neither reading them late nor changing the rows meanwhile changes them."""
    given = {"n_nonzero": 3} if SOLVERS[solver] == "support" else {"l1_penalty": 0.2}
    rows = ROWS.clone()
    result = encode(rows, ATOMS, solver, **given)
    weight = 0.2 if SOLVERS[solver] == "penalty" else 0.0
    wanted = 0.5 * (ROWS - result.codes @ ATOMS).square().sum() + weight * result.codes.abs().sum()
    if solver == "ridge":
        wanted += 0.1 * result.codes.square().sum()
    rows.zero_()
    assert result.objective[-1] == pytest.approx(float(wanted), rel=1e-9, abs=1e-12)
    for same in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), replace(result)):
        assert type(same) is type(result) is CodingResult
        assert torch.equal(same.codes, result.codes)
        kept = [field.name for field in fields(result) if field.name != "codes"]
        assert [getattr(same, name) for name in kept] == [getattr(result, name) for name in kept]
    assert replace(result, seconds=2.0).seconds == 2.0


@pytest.mark.parametrize(("n_atoms", "d"), [(4, 9), (70, 80)])
def test_a_result_lets_go_of_the_rows(n_atoms, d):
    rows, atoms, _ = planted(50, n_atoms, d, 3)
    result, watched = least_squares_codes(rows, atoms), weakref.ref(rows)
    del rows
    gc.collect()
    assert watched() is None
    assert result.iterations == 1


@pytest.mark.parametrize(("n_atoms", "d"), [(4, 9), (70, 80)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused_at_once(n_atoms, d, value):
    rows, atoms, _ = planted(50, n_atoms, d, 3)
    rows[7, 2] = value
    with pytest.raises(FiltersubError, match="rows holds NaN or infinity"):
        least_squares_codes(rows, atoms)


@pytest.mark.parametrize(
    ("n_atoms", "d"), [(1, 1), (2, 9), (6, 9), (8, 9), (9, 9), (9, 12), (16, 16), (17, 30), (32, 32)]
)
@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 23, 8191, 8195])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_are_the_product_with_the_pseudo_inverse(n_atoms, d, n_rows, dtype):
    """Around the edges of tiles, of vectors and of the shares that threads take."""
    generator = torch.Generator().manual_seed(n_rows)
    rows = torch.randn(n_rows, d, dtype=dtype, generator=generator)
    atoms = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    atoms = torch.cat([atoms, atoms])[:n_atoms].to(dtype)
    wanted = rows.double() @ torch.linalg.pinv(atoms.double())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(least_squares_codes(rows, atoms).codes.double(), wanted, atol=tolerance, rtol=0)


def test_codes_are_the_same_on_any_number_of_threads():
    rows = torch.randn(40_000, 9, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            found.append(least_squares_codes(rows, ATOMS.float()).codes)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("row", [0, 8190, 8191, 8192, 9000, 9999])
def test_one_number_that_is_not_finite_is_seen_in_any_row(row):
    rows = torch.randn(10_000, 9, generator=torch.Generator().manual_seed(0))
    rows[row, 8] = float("nan")
    with pytest.raises(FiltersubError, match="rows holds NaN or infinity"):
        least_squares_codes(rows, ATOMS.float())


def test_rows_whose_codes_sum_up_to_infinity_are_finite_all_the_same():
    rows = torch.full((10_000, 9), 1e37)
    assert least_squares_codes(rows, torch.eye(9)).codes.equal(rows)


@pytest.mark.parametrize("off", [1e-16, 1e-7, 9e-5, 1e-3])
def test_atoms_all_but_orthonormal_get_their_exact_pseudo_inverse(off):
    generator = torch.Generator().manual_seed(1)
    atoms = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64, generator=generator)).Q[:6]
    atoms += off / 12 * torch.randn(6, 9, dtype=torch.float64, generator=generator)
    codes = least_squares_codes(ROWS, atoms).codes
    torch.testing.assert_close(codes, ROWS @ torch.linalg.pinv(atoms), atol=1e-14 * float(ROWS.norm()), rtol=0)
