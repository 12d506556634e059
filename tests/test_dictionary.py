"""Dictionary learning: never rises, reproduces, finds planted atoms."""

import pytest
import torch
from conftest import planted

from filtersub.dictionary import learn_dictionary, update_atoms
from filtersub.errors import FiltersubError
from filtersub.sparse_coding import kkt_violation, lasso_objective

ROWS, _, _ = planted(600, 9, 9, 2, seed=1)
NOISY = ROWS + 0.05 * torch.randn(ROWS.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("solver", ["lasso", "fista", "omp"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_objective_never_rises(solver, seed):
    learned = learn_dictionary(
        NOISY, 6, solver=solver, l1_penalty=0.05, n_nonzero=2, seed=seed, tol=1e-6, max_rounds=30
    )
    steps = torch.tensor(learned.objective, dtype=torch.float64).diff()
    assert len(steps) >= 2
    assert float(steps.max()) <= 0


def test_atoms_are_unit_norm_and_codes_optimal_for_them():
    learned = learn_dictionary(NOISY, 6, l1_penalty=0.05)
    torch.testing.assert_close(learned.atoms.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert kkt_violation(NOISY, learned.atoms, learned.codes, 0.05) < 1e-6 * 0.05
    assert learned.objective[-1] == pytest.approx(lasso_objective(NOISY, learned.atoms, learned.codes, 0.05), rel=1e-12)


def test_planted_atoms_come_back_up_to_sign_and_order():
    rows, atoms, _ = planted(4000, 6, 9, 1, seed=4)
    found = learn_dictionary(rows, 6, l1_penalty=0.01, seed=3, tol=1e-9, max_rounds=300).atoms
    assert float((found @ atoms.T).abs().amax(0).min()) > 0.999


@pytest.mark.parametrize("solver", ["lasso", "pca"])
def test_the_same_seed_gives_the_same_bits(solver):
    one, other = (learn_dictionary(NOISY, 6, solver=solver, l1_penalty=0.05, seed=7) for _ in range(2))
    assert torch.equal(one.atoms, other.atoms)
    assert torch.equal(one.codes, other.codes)


def test_sign_and_order_are_canonical():
    learned = learn_dictionary(NOISY, 6, l1_penalty=0.05)
    energy = learned.codes.square().sum(0)
    assert bool((energy.diff() <= 0).all())
    peaks = learned.atoms.gather(1, learned.atoms.abs().argmax(1, keepdim=True))
    assert bool((peaks > 0).all())


def test_a_sample_first_changes_speed_not_the_contract():
    learned = learn_dictionary(NOISY, 6, l1_penalty=0.05, sample_rows=100)
    assert learned.codes.shape == (600, 6)
    assert float(torch.tensor(learned.objective).diff().max()) <= 0
    assert learned.rounds > len(learned.objective)


def test_dead_atoms_are_replaced_without_harm():
    atoms = torch.eye(9, dtype=torch.float64)[:4]
    codes = NOISY @ atoms.T
    codes[:, 2] = 0
    moved = update_atoms(NOISY, atoms, codes)
    assert not torch.equal(moved[2], atoms[2])
    assert lasso_objective(NOISY, moved, codes, 0.0) <= lasso_objective(NOISY, atoms, codes, 0.0)


def test_kernels_of_zeros_are_learned_as_zeros():
    learned = learn_dictionary(torch.zeros(20, 9), 3)
    assert learned.codes.count_nonzero() == 0
    assert bool(torch.isfinite(learned.atoms).all())


@pytest.mark.parametrize("n_atoms", [0, -3, 601, 2.5, True])
def test_bad_numbers_of_atoms_are_named(n_atoms):
    with pytest.raises(FiltersubError, match="atoms"):
        learn_dictionary(NOISY, n_atoms)
