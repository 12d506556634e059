"""Matching pursuits: the literal algorithms, recovery guarantees, spams and scikit-learn."""

import numpy as np
import pytest
import torch
from conftest import planted
from scipy.optimize import nnls

from filtersub.errors import ConvergenceWarning
from filtersub.sparse_coding import encode, matching_pursuit, orthogonal_matching_pursuit, spams_pursuit

ROWS, ATOMS, _ = planted(200, 9, 9, 3)


def noisy(n_atoms, d, seed=0, n_rows=80):
    rows, atoms, _ = planted(n_rows, n_atoms, d, min(3, n_atoms), seed=seed)
    noise = torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1000))
    return rows + 0.1 * noise, atoms


def incoherent(d):
    """Identity and cosines: the coherence of two orthonormal bases is at least 1 / sqrt(d), here near that."""
    k = torch.arange(d, dtype=torch.float64)
    cosines = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / (2 * d))
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    return torch.cat([torch.eye(d, dtype=torch.float64), cosines])


@pytest.mark.parametrize("solver", ["omp", "ormp", "spams-omp"])
def test_planted_supports_return_where_coherence_is_low(solver):
    """Coherence below 1 / (2 s - 1) guarantees exact recovery (Tropp, "Greed is Good", 2004)."""
    atoms, s = incoherent(64), 3
    gram = atoms @ atoms.T
    assert (gram - torch.eye(128)).abs().max() < 1 / (2 * s - 1)
    _, _, codes = planted(100, 128, 64, s, seed=5)
    found = encode(codes @ atoms, atoms, solver, n_nonzero=s)
    torch.testing.assert_close(found.codes, codes, atol=1e-10, rtol=0)


@pytest.mark.parametrize("n_atoms", [4, 9, 16, 17, 40])
@pytest.mark.parametrize("n_nonzero", [1, 2, 4])
def test_agrees_with_scikit_learn(n_atoms, n_nonzero):
    from sklearn.linear_model import orthogonal_mp

    rows, atoms = noisy(n_atoms, 9, seed=n_atoms)
    found = orthogonal_matching_pursuit(rows, atoms, n_nonzero)
    assert found.optimality < 1e-11
    assert int((found.codes != 0).sum(1).max()) <= n_nonzero
    theirs = torch.from_numpy(orthogonal_mp(atoms.T.numpy(), rows.T.numpy(), n_nonzero_coefs=n_nonzero)).T
    torch.testing.assert_close(found.codes, theirs, atol=1e-9, rtol=0)
    at_most = 0.3 * float(rows.norm(dim=1).median())
    if n_atoms >= 9:
        by_error = orthogonal_matching_pursuit(rows, atoms, max_residual=at_most)
        theirs = orthogonal_mp(atoms.T.numpy(), rows.T.numpy(), tol=at_most**2)
        torch.testing.assert_close(by_error.codes, torch.from_numpy(theirs).T, atol=1e-9, rtol=0)


@pytest.mark.parametrize("n_atoms", [4, 9, 16, 17, 40])
@pytest.mark.parametrize(
    "asked", [{"n_nonzero": 1}, {"n_nonzero": 3}, {"max_residual": 0.8}, {"n_nonzero": 2, "max_residual": 2.0}]
)
def test_the_order_recursive_rule_agrees_with_spams(n_atoms, asked):
    rows, atoms = noisy(n_atoms, 9, seed=n_atoms)
    if n_atoms < 9 and "n_nonzero" not in asked:
        out_of_reach = rows - rows @ torch.linalg.pinv(atoms) @ atoms
        asked = {
            "max_residual": 1.01 * float(out_of_reach.norm(dim=1).max())
        }  # all rows come within it, not all at once
    found = orthogonal_matching_pursuit(rows, atoms, rule="error", **asked)
    assert bool((found.codes != 0).any())
    torch.testing.assert_close(found.codes, spams_pursuit(rows, atoms, **asked).codes, atol=1e-8, rtol=0)


def test_the_rules_differ_and_each_step_of_the_second_lowers_the_error_most():
    rows, atoms = noisy(20, 9, n_rows=300)
    textbook, recursive = (orthogonal_matching_pursuit(rows, atoms, 2, rule=rule) for rule in ("correlation", "error"))
    assert recursive.objective[1] == pytest.approx(textbook.objective[1]), "the first atom is the same"
    assert recursive.objective[2] < textbook.objective[2]
    first = orthogonal_matching_pursuit(rows, atoms, 1).codes.abs().argmax(1)
    for i in range(10):  # by brute force: the best partner of the first atom
        pairs = [torch.stack([atoms[first[i]], atoms[j]]) for j in range(20)]
        errors = [float((rows[i] - rows[i] @ torch.linalg.pinv(pair) @ pair).norm()) for pair in pairs]
        assert float((rows[i] - recursive.codes[i] @ atoms).norm()) == pytest.approx(min(errors), rel=1e-9)


def literal_pursuit(row, atoms, limit, by_error, nonnegative, bound):
    """Codes of one row in numpy: the best atom joins, then all are refitted."""
    codes, square = np.zeros(len(atoms)), (atoms**2).sum(1)
    while np.count_nonzero(codes) < limit and np.linalg.norm(row - codes @ atoms) > bound:
        support = np.flatnonzero(codes)
        outside = atoms - atoms @ np.linalg.pinv(atoms[support]) @ atoms[support] if by_error else atoms
        rest = (outside**2).sum(1)
        gradient = atoms @ (row - codes @ atoms)
        allowed = (codes == 0) & (rest > 1e-12 * square) & (not nonnegative or gradient > 1e-12)
        scores = np.where(allowed, gradient**2 / np.where(allowed, rest, 1), 0)
        if scores.max() < 1e-24:
            break
        support = np.append(support, scores.argmax())
        while True:
            target = np.zeros(len(atoms))
            target[support] = np.linalg.lstsq(atoms[support].T, row, rcond=None)[0]
            wrong = support[target[support] <= 0]
            if not nonnegative or len(wrong) == 0:
                break  # else as Lawson and Hanson: towards the target, until the first code is zero
            codes = codes + (codes[wrong] / (codes[wrong] - target[wrong])).min() * (target - codes)
            support = support[codes[support] > 1e-14]
        codes = target
    return codes


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("rule", ["correlation", "error"])
@pytest.mark.parametrize(("n_atoms", "d"), [(5, 9), (9, 9), (20, 9), (40, 16)])
def test_the_kernel_is_the_literal_algorithm(n_atoms, d, rule, nonnegative):
    rows, atoms = noisy(n_atoms, d, seed=n_atoms)
    for limit in (1, 3, min(n_atoms, d) - 1):  # with d atoms every last one fits: ties
        for bound in (None, 0.5):
            asked = {"nonnegative": nonnegative, "rule": rule, "max_residual": bound}
            ours = orthogonal_matching_pursuit(rows, atoms, limit, **asked)
            literal = (rows.numpy(), atoms.numpy(), limit, rule == "error", nonnegative)
            codes = np.stack([literal_pursuit(row, *literal[1:], bound or 0.0) for row in literal[0]])
            np.testing.assert_allclose(ours.codes.numpy(), codes, atol=1e-9)
            left = np.linalg.norm(literal[0] - codes @ literal[1], axis=1)
            assert ours.objective[-1] == pytest.approx(0.5 * (left**2).sum(), abs=1e-9)
            assert ours.details["rows_above_error"] == (0 if bound is None else (left > bound).sum())
            assert ours.optimality < 1e-11


@pytest.mark.parametrize("rule", ["correlation", "error"])
@pytest.mark.parametrize("n_atoms", [5, 9, 30])
def test_with_all_atoms_it_is_nonnegative_least_squares(n_atoms, rule):
    rows, atoms = noisy(n_atoms, 9, seed=n_atoms)
    found = orthogonal_matching_pursuit(rows, atoms, n_atoms, nonnegative=True, rule=rule)
    assert found.codes.min() >= 0
    ours = (rows - found.codes @ atoms).norm(dim=1)
    theirs = torch.tensor([nnls(atoms.T.numpy(), row.numpy())[1] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def literal_matching_pursuit(row, atoms, steps):
    """As Mallat and Zhang write it, one row in numpy."""
    residual, codes = row.copy(), np.zeros(len(atoms))
    norms = np.linalg.norm(atoms, axis=1)
    for _ in range(steps):
        products = atoms @ residual / norms
        best = np.abs(products).argmax()
        codes[best] += products[best] / norms[best]
        residual = residual - products[best] / norms[best] * atoms[best]
    return codes


@pytest.mark.parametrize("steps", [1, 3, 9])
@pytest.mark.parametrize("n_atoms", [9, 25])
def test_matching_pursuit_is_the_literal_one(n_atoms, steps):
    rows, atoms = noisy(n_atoms, 9, seed=n_atoms)
    atoms = atoms * torch.linspace(0.5, 2, n_atoms, dtype=torch.float64)[:, None]
    found = matching_pursuit(rows, atoms, steps)
    expected = [literal_matching_pursuit(row, atoms.numpy(), steps) for row in rows.numpy()]
    torch.testing.assert_close(found.codes, torch.from_numpy(np.stack(expected)), atol=1e-10, rtol=0)
    assert len(found.objective) == steps + 1
    assert all(later < earlier for earlier, later in zip(found.objective, found.objective[1:], strict=False))


def test_matching_pursuit_converges_to_the_nearest_codes():
    """With atoms that span the space the residual goes to zero; non-negative, to that of NNLS."""
    rows, atoms = noisy(12, 9, n_rows=20)
    near = matching_pursuit(rows, atoms, max_residual=0.01)
    assert (rows - near.codes @ atoms).norm(dim=1).max() <= 0.01
    bound = torch.tensor([nnls(atoms.T.numpy(), row.numpy())[1] for row in rows]) + 0.1
    feasible = matching_pursuit(rows, atoms, max_residual=bound, nonnegative=True)
    assert feasible.converged
    assert feasible.codes.min() >= 0


@pytest.mark.parametrize("solver", ["mp", "omp", "ormp", "spams-omp"])
def test_a_bound_out_of_reach_is_told(solver):
    rows, atoms = noisy(4, 9)
    with pytest.warns(ConvergenceWarning, match="80 of 80 rows with a residual above max_residual"):
        found = encode(rows, atoms, solver, max_residual=1e-6)
    assert not found.converged
    assert found.details["rows_above_error"] == 80
    best = rows - rows @ torch.linalg.pinv(atoms) @ atoms
    torch.testing.assert_close(rows - found.codes @ atoms, best, atol=1e-5, rtol=0)
    # with a number of nonzeros, that number is a reason to stop
    assert encode(rows, atoms, solver, n_nonzero=2, max_residual=1e-6).converged


def test_small_float32_rows_are_coded_by_all():
    """spams alone returns zeros for them, unless it is given a bound on the error."""
    rows, atoms = noisy(9, 9)
    rows, atoms = (1e-3 * rows).float(), atoms.float()
    ours, theirs = orthogonal_matching_pursuit(rows, atoms, 3, rule="error"), spams_pursuit(rows, atoms, 3)
    assert ((theirs.codes != 0).sum(1) == 3).all()
    assert theirs.objective[-1] == pytest.approx(ours.objective[-1], rel=1e-4)


def test_a_row_does_not_depend_on_the_others():
    rows, atoms = noisy(9, 9)
    rows[1] *= 1e12
    both = orthogonal_matching_pursuit(rows, atoms, 4)
    alone = orthogonal_matching_pursuit(rows[:1], atoms, 4)
    assert torch.equal(both.codes[:1], alone.codes)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        many = orthogonal_matching_pursuit(rows.repeat(120, 1), atoms, 4)
    finally:
        torch.set_num_threads(before)
    again = orthogonal_matching_pursuit(rows.repeat(120, 1), atoms, 4)
    assert torch.equal(many.codes, again.codes)
    assert many.objective == again.objective


def test_nearly_dependent_atoms_are_refitted_to_rounding():
    rows, atoms = noisy(9, 9)
    atoms[1] = atoms[0] + 1e-3 * atoms[1]
    found = orthogonal_matching_pursuit(rows, atoms, 9)
    assert found.optimality < 1e-9
    assert found.objective[-1] < 1e-12 * found.objective[0]


def test_pursuit_of_zero_rows_and_of_all_atoms():
    rows = torch.cat([torch.zeros(1, 9, dtype=torch.float64), ROWS[:5]])
    found = orthogonal_matching_pursuit(rows, ATOMS, 9)
    assert found.codes[0].count_nonzero() == 0
    torch.testing.assert_close(found.codes @ ATOMS, rows, atol=1e-9, rtol=0)
    assert len(found.objective) == found.iterations + 1
