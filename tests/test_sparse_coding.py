"""What every solver owes: one signature, closed forms, edge cases, clear refusals; each family has its own file."""

import time

import pytest
import torch
from conftest import planted
from torch.nn.functional import softshrink

from filtersub.errors import ConvergenceWarning, FiltersubError
from filtersub.sparse_coding import (
    SOLVERS,
    check_solver,
    encode,
    fista,
    ista,
    kkt_violation,
    largest_penalty,
    lasso_objective,
    orthogonal_matching_pursuit,
)
from filtersub.sparse_coding.solvers import _TAKES

ROWS, ATOMS, CODES = planted(200, 9, 9, 3)
PENALISED = [name for name, kind in SOLVERS.items() if kind == "penalty"]
PURSUITS = [name for name, kind in SOLVERS.items() if kind == "support"]
NONNEGATIVE = [name for name, takes in _TAKES.items() if "nonnegative" in takes]
BY_ERROR = [name for name, takes in _TAKES.items() if "max_residual" in takes]
STOPS_AT_ERROR = [name for name in BY_ERROR if name in PURSUITS]


def orthonormal(size, seed=0):
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))[
        0
    ]


def settings(solver):
    """Those that this kind of solver needs."""
    return {"penalty": {"l1_penalty": 0.1}, "support": {"n_nonzero": 3}, "linear": {"l1_penalty": 0.1}}[SOLVERS[solver]]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_solver_has_one_signature(solver, dtype):
    rows, atoms = ROWS[:20].to(dtype), ATOMS.to(dtype)
    before = time.perf_counter()
    result = encode(rows, atoms, solver, l1_penalty=0.1, n_nonzero=3)
    elapsed = time.perf_counter() - before
    assert result.codes.shape == (20, 9)
    assert result.codes.dtype == dtype
    assert 0 <= result.seconds <= elapsed  # in seconds, and of this call
    assert result.converged
    assert 0 < result.density <= 1
    # the last of the history belongs to the codes
    penalty = 0.1 if SOLVERS[solver] == "penalty" else 0.0
    value = lasso_objective(rows, atoms, result.codes, penalty)
    if solver == "ridge":
        value += 0.05 * float(result.codes.double().square().sum())
    assert result.objective[-1] == pytest.approx(value, rel=1e-5, abs=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("solver", PENALISED)
def test_orthonormal_atoms_turn_penalties_into_soft_thresholds(solver):
    atoms = orthonormal(6)
    expected = softshrink(ROWS[:, :6] @ atoms.T, 0.2)
    found = encode(ROWS[:, :6], atoms, solver, l1_penalty=0.2)
    torch.testing.assert_close(found.codes, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("solver", PURSUITS)
def test_orthonormal_atoms_turn_pursuits_into_hard_selection(solver):
    atoms = orthonormal(6)
    correlations = ROWS[:, :6] @ atoms.T
    kept = correlations.abs() >= correlations.abs().topk(2).values[:, 1:]
    found = encode(ROWS[:, :6], atoms, solver, n_nonzero=2)
    torch.testing.assert_close(found.codes, correlations * kept, atol=1e-12, rtol=0)


@pytest.mark.parametrize("solver", NONNEGATIVE)
def test_nonnegative_codes_are_so_and_are_best_so(solver):
    """Orthonormal atoms: the positive part of what would be without the constraint."""
    atoms = orthonormal(6)
    rows, correlations = ROWS[:, :6], ROWS[:, :6] @ atoms.T
    found = encode(rows, atoms, solver, nonnegative=True, **settings(solver))
    assert found.codes.min() >= 0
    if solver in PURSUITS:
        positive = correlations.clamp_min(0)
        expected = positive * (positive >= positive.topk(3).values[:, 2:])
    else:
        expected = (correlations - 0.1).clamp_min(0)
    torch.testing.assert_close(found.codes, expected, atol=1e-8, rtol=0)
    assert (encode(rows, atoms, solver, **settings(solver)).codes < 0).any(), "without it there are negative codes"


@pytest.mark.parametrize("solver", BY_ERROR)
@pytest.mark.parametrize("per_row", [False, True])
def test_error_bounds_are_met(solver, per_row):
    rows, atoms, _ = planted(60, 12, 9, 5, seed=4)
    bounds = torch.linspace(0.1, 2.0, 60, dtype=torch.float64) if per_row else torch.tensor(0.7, dtype=torch.float64)
    found = encode(rows, atoms, solver, max_residual=bounds if per_row else 0.7)
    residual = (rows - found.codes @ atoms).norm(dim=1)
    assert found.converged
    assert (residual <= bounds * (1 + 1e-6)).all()
    if solver in STOPS_AT_ERROR:  # one atom less would not do: the last step was needed
        fewer = (found.codes != 0).sum(1).max() - 1
        shorter = encode(rows, atoms, solver, n_nonzero=int(fewer))
        assert ((rows - shorter.codes @ atoms).norm(dim=1) > bounds).any()
    else:  # the smallest norm lies on the boundary
        torch.testing.assert_close(residual, bounds.expand(60), rtol=1e-6, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_edge_cases(solver):
    nothing = encode(ROWS[:0], ATOMS, solver, **settings(solver))
    assert nothing.codes.shape == (0, 9)
    assert nothing.optimality == 0
    one = encode(ROWS[:1], ATOMS, solver, **settings(solver))
    several = encode(ROWS[:7], ATOMS, solver, **settings(solver))
    torch.testing.assert_close(one.codes, several.codes[:1], atol=1e-4, rtol=0)
    zeros = encode(torch.zeros_like(ROWS[:3]), ATOMS, solver, **settings(solver))
    assert zeros.codes.count_nonzero() == 0
    assert zeros.converged


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("atom", ["zero", "repeated"])
def test_zero_and_repeated_atoms(solver, atom):
    atoms = ATOMS.clone()
    atoms[2] = 0 if atom == "zero" else atoms[0]
    alone = encode(ROWS[:30], atoms[[0, 1, *range(3, 9)]], solver, **settings(solver))
    if solver == "spams-cd" and atom == "zero":
        with pytest.raises(FiltersubError, match="unit norm only"):
            encode(ROWS[:30], atoms, solver, **settings(solver))
        return
    if solver in ("spams", "spams-omp") and atom == "repeated":  # it does not come to an end of its own
        with pytest.warns(ConvergenceWarning, match=r"use solver '(lasso|ormp)'"):
            found = encode(ROWS[:30], atoms, solver, **settings(solver))
        assert not found.converged
        assert found.objective[-1] > alone.objective[-1]
        return
    found = encode(ROWS[:30], atoms, solver, **settings(solver))
    assert found.converged
    if atom == "zero":
        assert found.codes[:, 2].abs().max() < 1e-12
    if solver == "ridge" and atom == "repeated":  # a repeated atom shares its code in two, at half the price
        assert found.objective[-1] < alone.objective[-1]
    else:
        assert found.objective[-1] == pytest.approx(alone.objective[-1], rel=1e-6)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_largest_penalty_is_where_codes_begin(nonnegative):
    critical = largest_penalty(ROWS, ATOMS, nonnegative=nonnegative)
    for solver in ("fista", "ista"):
        at, below = (
            encode(ROWS, ATOMS, solver, l1_penalty=part * critical, nonnegative=nonnegative) for part in (1.0, 0.99)
        )
        assert at.codes.count_nonzero() == 0
        assert below.codes.count_nonzero() > 0


def test_the_optimality_conditions_of_nonnegative_codes():
    rows, atoms = torch.tensor([[2.0, -3.0]]), torch.eye(2)
    best = torch.tensor([[1.5, 0.0]])
    assert kkt_violation(rows, atoms, best, 0.5, nonnegative=True) == 0
    assert kkt_violation(rows, atoms, best, 0.5) == 2.5  # the second code would be -2.5
    assert kkt_violation(rows, atoms, torch.tensor([[1.5, -1.0]]), 0.5, nonnegative=True) >= 1.0


def test_what_a_solver_cannot_do_is_refused_with_those_that_can():
    with pytest.raises(FiltersubError, match=r"'pca' does not take nonnegative.*fista, ista.*omp"):
        encode(ROWS, ATOMS, "pca", nonnegative=True)
    with pytest.raises(FiltersubError, match=r"'fista' does not take max_residual; .*lasso.*omp"):
        encode(ROWS, ATOMS, "fista", max_residual=0.1)
    with pytest.raises(FiltersubError, match="needs the number of nonzeros"):
        encode(ROWS, ATOMS, "mp")
    with pytest.raises(FiltersubError, match="either l1_penalty or max_residual"):
        encode(ROWS, ATOMS, "lasso", l1_penalty=0.1, max_residual=0.1)
    with pytest.raises(FiltersubError, match="unit norm only, got one of 2; use 'spams'"):
        encode(ROWS, 2 * ATOMS, "spams-cd", l1_penalty=0.1)
    with pytest.raises(FiltersubError, match="spams needs max_residual > 0"):
        encode(ROWS, ATOMS, "spams", max_residual=0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_that_are_not_numbers_are_refused(solver):
    rows = ROWS.clone()
    rows[3, 4] = float("nan")
    with pytest.raises(FiltersubError, match="rows holds NaN or infinity"):
        encode(rows, ATOMS, solver, **settings(solver))
    with pytest.raises(FiltersubError, match=r"\(200, 9\) and \(9, 8\)"):
        encode(ROWS, ATOMS[:, :8], solver, **settings(solver))
    with pytest.raises(FiltersubError, match="rows must be float32 or float64"):
        encode(ROWS.half(), ATOMS, solver, **settings(solver))


@pytest.mark.filterwarnings("ignore::filtersub.errors.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 1e5])
@pytest.mark.parametrize("share", [1e-7, 1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("solver", ["fista", "ista"])
def test_convergence_is_a_violation_that_is_small_beside_the_penalty(solver, share, scale, dtype):
    """The optimality conditions written out for each row: a violation near l means that codes are not those of l."""
    rows, atoms, _ = planted(30, 6, 6, 3, seed=2)
    rows = (
        scale * (rows + 0.1 * torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    ).to(dtype)
    atoms, penalty = atoms.to(dtype), share * scale
    result = {"fista": fista, "ista": ista}[solver](rows, atoms, penalty, max_iter=2000)
    worst = 0.0
    for row, codes in zip(rows.double(), result.codes.double(), strict=True):
        for atom, code in zip(atoms.double(), codes, strict=True):
            pull = float(atom @ (row - codes @ atoms.double()))
            off = abs(pull - penalty * float(code.sign())) if code != 0 else max(0.0, abs(pull) - penalty)
            worst = max(worst, off)
    assert result.optimality == pytest.approx(worst, rel=1e-6)
    if result.converged:
        assert worst < 0.05 * penalty
    assert result.converged or share < 0.1


def test_large_finite_rows_are_not_taken_for_infinite():
    rows = torch.full((4, 9), 3e38)
    fista(rows * 1e-30, ATOMS.float(), 0.1)
    assert largest_penalty(rows, torch.eye(9)) == pytest.approx(3e38)


def test_bad_settings_are_named():
    with pytest.raises(FiltersubError, match="did you mean 'lasso'"):
        check_solver("laso")
    with pytest.raises(FiltersubError, match="penalty must not be negative, got -1"):
        fista(ROWS, ATOMS, -1.0)
    with pytest.raises(FiltersubError, match=r"number of nonzeros \(of 9 atoms\) must be at least 1, got 0"):
        orthogonal_matching_pursuit(ROWS, ATOMS, 0)
    with pytest.raises(FiltersubError, match=r"one number or a tensor of n_rows = 200, got shape \(3,\)"):
        encode(ROWS, ATOMS, "omp", max_residual=torch.ones(3))
    with pytest.raises(FiltersubError, match="max_residual must be finite and >= 0, got -1"):
        encode(ROWS, ATOMS, "lasso", max_residual=-1.0)
    with pytest.raises(FiltersubError, match="rule must be"):
        orthogonal_matching_pursuit(ROWS, ATOMS, 2, rule="best")
    with pytest.raises(FiltersubError, match="codes_init must be"):
        fista(ROWS, ATOMS, 0.1, codes_init=torch.zeros(3, 9, dtype=torch.float64))


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_leave_the_threads_of_the_process_alone(solver):
    """spams sets OpenMP's threads of the whole process to the number it is given; so it is given torch's own."""
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            encode(ROWS[:20], ATOMS, solver, l1_penalty=0.1, n_nonzero=3)
            assert torch.get_num_threads() == n_threads
            if "max_residual" in _TAKES[solver]:
                encode(ROWS[:20], ATOMS, solver, max_residual=0.5)
                assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
