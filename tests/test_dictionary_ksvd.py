"""K-SVD and online learning: their updates are what their papers say."""

import numpy as np
import pytest
import torch
from conftest import planted

from filtersub.dictionary import learn_dictionary
from filtersub.dictionary.alternate import Statistics
from filtersub.dictionary.ksvd import ksvd_update
from filtersub.dictionary.online import FadingStatistics
from filtersub.sparse_coding import encode, lasso_objective
from filtersub.sparse_coding.linear import second_moment

ROWS, ATOMS, CODES = planted(800, 6, 9, 2, seed=1)
NOISY = ROWS + 0.05 * torch.randn(ROWS.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
START = torch.nn.functional.normalize(NOISY[:6])


def test_one_atom_is_the_best_rank_one_fit():
    atoms, codes = ksvd_update(NOISY, START[:1], NOISY @ START[:1].T)
    left, values, right = torch.linalg.svd(NOISY, full_matrices=False)
    torch.testing.assert_close(codes @ atoms, values[0] * left[:, :1] * right[:1])


def test_an_atom_of_several_is_the_leading_singular_vector_of_what_the_others_leave():
    codes = encode(NOISY, START, "omp", n_nonzero=2).codes
    atoms, refitted = ksvd_update(NOISY, START, codes)
    users = codes[:, 0] != 0
    left_over = NOISY[users] - codes[users, 1:] @ START[1:]
    first = torch.linalg.svd(left_over, full_matrices=False).Vh[0]
    assert abs(float(first @ atoms[0])) == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(refitted[users, 0], left_over @ atoms[0])


@pytest.mark.parametrize("approximate", [False, True])
def test_an_update_keeps_supports_and_norms_and_never_raises_the_error(approximate):
    codes = encode(NOISY, START, "omp", n_nonzero=2).codes
    atoms, refitted = ksvd_update(NOISY, START, codes, approximate=approximate)
    assert not bool((refitted[codes == 0] != 0).any())
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(6, dtype=torch.float64))
    before, after = lasso_objective(NOISY, START, codes, 0.0), lasso_objective(NOISY, atoms, refitted, 0.0)
    assert after < before


def test_many_approximate_updates_reach_the_exact_one():
    codes = NOISY @ START[:1].T
    exact, _ = ksvd_update(NOISY, START[:1], codes)
    atoms = START[:1]
    for _ in range(100):
        atoms, codes = ksvd_update(NOISY, atoms, codes, approximate=True)
    assert abs(float(atoms[0] @ exact[0])) == pytest.approx(1.0, abs=1e-9)


def test_dead_atoms_become_rows_that_are_missed_most():
    codes = encode(NOISY, START, "omp", n_nonzero=2).codes
    codes[:, [1, 4]] = 0
    atoms, _ = ksvd_update(NOISY, START, codes)
    directions = torch.nn.functional.normalize(NOISY)
    for j in (1, 4):
        assert float((directions @ atoms[j]).max()) == pytest.approx(1.0)
    assert not torch.allclose(atoms[1], atoms[4])


@pytest.mark.parametrize("learner", ["ksvd", "approximate-ksvd"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_error_never_rises(learner, seed):
    learned = learn_dictionary(NOISY, 6, solver="omp", n_nonzero=2, learner=learner, seed=seed, max_rounds=20)
    steps = np.diff(learned.objective)
    assert len(steps) >= 2
    assert steps.max() <= 0
    assert bool(((learned.codes != 0).sum(1) <= 2).all())


def test_planted_atoms_come_back_from_ksvd():
    rows, atoms, _ = planted(2000, 6, 9, 1, seed=4)
    found = learn_dictionary(rows, 6, solver="omp", n_nonzero=1, learner="ksvd", seed=1, init="kmeans++").atoms
    assert float((found @ atoms.T).abs().amax(0).min()) > 0.9999


def test_one_batch_of_all_rows_has_their_statistics():
    found = Statistics(second_moment(CODES).numpy(), second_moment(CODES, ROWS).numpy(), 1.0, 1.0)
    for forgetting in (0.0, 3.0):
        total = FadingStatistics(forgetting).add(found)
        np.testing.assert_array_equal(total.gram, (CODES.T @ CODES).numpy())
        np.testing.assert_allclose(total.target, (CODES.T @ ROWS).numpy(), rtol=1e-12)


def test_without_forgetting_batches_add_up_to_all_rows():
    sums = FadingStatistics(0.0)
    for begin in range(0, 800, 200):
        codes, rows = CODES[begin : begin + 200], ROWS[begin : begin + 200]
        total = sums.add(Statistics(second_moment(codes).numpy(), second_moment(codes, rows).numpy(), 1.0, 1.0))
    np.testing.assert_allclose(total.gram, (CODES.T @ CODES).numpy())
    np.testing.assert_allclose(total.target, (CODES.T @ ROWS).numpy(), atol=1e-10)


def test_forgetting_weighs_older_batches_less():
    ones = Statistics(np.ones((1, 1)), np.ones((1, 1)), 1.0, 1.0)
    sums = FadingStatistics(2.0)
    assert [float(sums.add(ones).gram[0, 0]) for _ in range(3)] == pytest.approx([1.0, 1.25, 1.25 * 4 / 9 + 1])


def test_online_learning_comes_near_the_alternation():
    rows, _, _ = planted(8000, 6, 9, 2, seed=1)
    online = learn_dictionary(rows, 6, l1_penalty=0.05, learner="online", batch_rows=40, max_rounds=20)
    batch = learn_dictionary(rows, 6, l1_penalty=0.05)
    begin = learn_dictionary(rows, 6, l1_penalty=0.05, max_rounds=0)
    assert online.objective[-1] - batch.objective[-1] < 0.1 * (begin.objective[-1] - batch.objective[-1])
    torch.testing.assert_close(online.atoms.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert online.codes.shape == (8000, 6)


@pytest.mark.parametrize(
    ("max_rounds", "tol", "converged", "stopped"),
    [(1, 1e-9, False, "1 passes over the rows spent"), (3, 0.0, False, "3 passes"), (50, 0.5, True, "less than 0.5")],
)
def test_passes_that_are_spent_are_not_convergence(max_rounds, tol, converged, stopped):
    rows, _, _ = planted(600, 6, 9, 2, seed=1)
    settings = {"learner": "online", "batch_rows": 50, "l1_penalty": 0.05}
    found = learn_dictionary(rows, 6, max_rounds=max_rounds, tol=tol, **settings)
    assert found.converged is converged
    assert stopped in found.stopped
    assert found.rounds == max_rounds or converged


def test_planted_atoms_come_back_online():
    rows, atoms, _ = planted(4000, 6, 9, 1, seed=4)
    found = learn_dictionary(
        rows, 6, l1_penalty=0.01, learner="online", init="kmeans++", batch_rows=100, max_rounds=20, seed=1
    ).atoms
    assert float((found @ atoms.T).abs().amax(0).min()) > 0.999
