"""FISTA, pursuit and linear codes; lasso has tests/test_lasso.py of its own."""

import pytest
import torch
from conftest import planted

from filtersub.errors import ConvergenceWarning, FiltersubError
from filtersub.sparse_coding import (
    SOLVERS,
    check_solver,
    encode,
    fista,
    kkt_violation,
    lasso,
    lasso_objective,
    least_squares_codes,
    orthogonal_matching_pursuit,
    principal_atoms,
    sklearn_lasso,
    spams_lasso,
)

ROWS, ATOMS, CODES = planted(200, 9, 9, 3)


def test_orthonormal_atoms_are_soft_thresholding():
    atoms = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    expected = torch.nn.functional.softshrink(ROWS[:, :6] @ atoms.T, 0.2)
    torch.testing.assert_close(fista(ROWS[:, :6], atoms, 0.2).codes, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("l1_penalty", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("n_atoms", [4, 9, 14])
def test_penalised_solvers_meet_at_one_optimum(n_atoms, l1_penalty):
    rows, atoms, _ = planted(40, n_atoms, 9, 3, seed=n_atoms)
    reference = sklearn_lasso(rows, atoms, l1_penalty)
    assert kkt_violation(rows, atoms, reference.codes, l1_penalty) < 1e-6 * l1_penalty
    for result in (
        fista(rows, atoms, l1_penalty, tol=1e-12, max_iter=20000),
        lasso(rows, atoms, l1_penalty),
        encode(rows, atoms, "spams", l1_penalty=l1_penalty),
    ):
        assert result.converged
        assert lasso_objective(rows, atoms, result.codes, l1_penalty) == pytest.approx(
            reference.objective[-1], rel=1e-9
        )


def test_spams_tells_its_optimality():
    assert spams_lasso(ROWS, ATOMS, 0.1).optimality < 1e-9


def test_fista_says_when_it_was_stopped():
    with pytest.warns(ConvergenceWarning, match="stopped after 3 steps"):
        result = fista(ROWS, ATOMS, 1e-3, max_iter=3)
    assert not result.converged
    assert result.optimality == pytest.approx(kkt_violation(ROWS, ATOMS, result.codes, 1e-3))


def test_fista_starts_where_it_is_told():
    solved = fista(ROWS, ATOMS, 0.1, tol=1e-10)
    again = fista(ROWS, ATOMS, 0.1, tol=1e-9, codes_init=solved.codes)
    assert again.iterations == 0
    assert torch.equal(again.codes, solved.codes)


def test_large_penalty_gives_zero_codes():
    critical = float((ROWS @ ATOMS.T).abs().max())
    assert fista(ROWS, ATOMS, critical).codes.count_nonzero() == 0
    assert fista(ROWS, ATOMS, 0.99 * critical).codes.count_nonzero() > 0


def test_pursuit_finds_planted_supports_of_incoherent_atoms():
    """Coherence below 1 / (2 s - 1) guarantees exact recovery (Tropp, 2004); orthonormal atoms have coherence 0."""
    atoms = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    _, _, codes = planted(100, 12, 12, 4, seed=5)
    found = orthogonal_matching_pursuit(codes @ atoms, atoms, 4)
    torch.testing.assert_close(found.codes, codes, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n_nonzero", [1, 2, 5])
def test_pursuit_agrees_with_scikit_learn(n_nonzero):
    from sklearn.linear_model import orthogonal_mp

    found = orthogonal_matching_pursuit(ROWS, ATOMS, n_nonzero)
    assert found.optimality < 1e-10
    assert int((found.codes != 0).sum(1).max()) <= n_nonzero
    theirs = torch.from_numpy(orthogonal_mp(ATOMS.T.numpy(), ROWS.T.numpy(), n_nonzero_coefs=n_nonzero)).T
    torch.testing.assert_close(found.codes, theirs, atol=1e-9, rtol=0)


def test_pursuit_of_zero_rows_and_of_all_atoms():
    rows = torch.cat([torch.zeros(1, 9, dtype=torch.float64), ROWS[:5]])
    found = orthogonal_matching_pursuit(rows, ATOMS, 9)
    assert found.codes[0].count_nonzero() == 0
    torch.testing.assert_close(found.codes @ ATOMS, rows, atol=1e-9, rtol=0)


def test_principal_atoms_are_the_best_subspace():
    atoms = principal_atoms(ROWS, 4)
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    singular = torch.linalg.svdvals(ROWS)
    residual = ROWS - least_squares_codes(ROWS, atoms).codes @ atoms
    assert float(residual.square().sum()) == pytest.approx(float(singular[4:].square().sum()), rel=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_has_one_signature(solver):
    result = encode(ROWS[:20], ATOMS, solver, l1_penalty=0.1, n_nonzero=3)
    assert result.codes.shape == (20, 9)
    assert result.codes.dtype == torch.float64
    assert result.seconds >= 0
    assert 0 < result.density <= 1


def test_bad_input_is_named():
    with pytest.raises(FiltersubError, match="did you mean 'lasso'"):
        check_solver("laso")
    with pytest.raises(FiltersubError, match=r"\(200, 9\) and \(9, 8\)"):
        fista(ROWS, ATOMS[:, :8], 0.1)
    with pytest.raises(FiltersubError, match="penalty must be"):
        fista(ROWS, ATOMS, -1.0)
    with pytest.raises(FiltersubError, match="from 1 to the number of atoms, 9; got 0"):
        orthogonal_matching_pursuit(ROWS, ATOMS, 0)
    with pytest.raises(FiltersubError, match="rows holds NaN"):
        fista(ROWS * float("nan"), ATOMS, 0.1)
    with pytest.raises(FiltersubError, match="codes_init must be"):
        fista(ROWS, ATOMS, 0.1, codes_init=torch.zeros(3, 9, dtype=torch.float64))
