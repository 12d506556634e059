"""The batched LASSO for GPUs, which is plain torch: on the CPU it must agree with the compiled kernels."""

import sys

import pytest
import torch

from filtersub.sparse_coding import lasso_batched
from filtersub.sparse_coding.lasso import _TABLE_ATOMS, lasso
from filtersub.sparse_coding.result import kkt_violation

INFINITY = float("inf")
SHAPES = [(1, 9), (6, 9), (9, 9), (12, 9), (13, 4), (14, 9), (72, 16), (30, 40)]


def problem(n_rows, n_atoms, d, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n_rows, d, generator=generator, dtype=torch.float64)
    rows *= torch.randn(n_rows, 1, generator=generator, dtype=torch.float64).exp()
    atoms = torch.randn(n_atoms, d, generator=generator, dtype=torch.float64)
    return rows, atoms / atoms.norm(dim=1, keepdim=True)


def batched(rows, atoms, l1_penalty, *, nonnegative=False, given=None):
    down, few = INFINITY if nonnegative else l1_penalty, len(atoms) <= _TABLE_ATOMS
    return lasso_batched.solve(rows, atoms, l1_penalty, down, 1e-9, 1000, given, few)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("l1_penalty", [0.01, 0.3])
@pytest.mark.parametrize(("n_atoms", "d"), SHAPES)
def test_agrees_with_the_kernels(n_atoms, d, l1_penalty, nonnegative):
    rows, atoms = problem(300, n_atoms, d, seed=n_atoms)
    codes, solved, violation, _ = batched(rows, atoms, l1_penalty, nonnegative=nonnegative)
    expected = lasso(rows, atoms, l1_penalty, nonnegative=nonnegative).codes
    assert solved.double().mean() > 0.98  # atoms in general position: few rows are left to the kernels
    torch.testing.assert_close(codes[solved], expected[solved], rtol=0, atol=1e-10 * float(expected.abs().max()))
    if not nonnegative:
        assert kkt_violation(rows[solved], atoms, codes[solved], l1_penalty) <= 1e-8 * l1_penalty
    assert float(violation[solved].max()) <= 1e-8 * l1_penalty


@pytest.mark.parametrize(("n_atoms", "d"), [(9, 9), (30, 9)])
def test_warm_start(n_atoms, d):
    rows, atoms = problem(300, n_atoms, d, seed=1)
    expected = lasso(rows, atoms, 0.05).codes
    noise = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for given in (expected, expected + noise, torch.full_like(expected, float("nan"))):
        codes, solved, _, _ = batched(rows, atoms, 0.05, given=given)
        torch.testing.assert_close(codes[solved], expected[solved], rtol=0, atol=1e-9)
        assert solved.double().mean() > 0.98


@pytest.mark.parametrize("n_atoms", [6, 30])
def test_what_it_does_not_solve_it_marks(n_atoms):
    rows, atoms = problem(200, n_atoms, 9, seed=2)
    atoms[1], atoms[2] = atoms[0] + 1e-6 * atoms[1], 0
    codes, solved, violation, slack = batched(rows, atoms, 0.05)
    assert torch.equal(solved, violation <= slack)
    assert kkt_violation(rows[solved], atoms, codes[solved], 0.05) <= 1e-8 * 0.05


@pytest.mark.parametrize("n_atoms", [9, 30])
def test_parts_do_not_matter(n_atoms, monkeypatch):
    rows, atoms = problem(100, n_atoms, 9, seed=3)
    whole = batched(rows, atoms, 0.05)[0]
    monkeypatch.setattr(lasso_batched, "_BYTES", 1 << 16)
    torch.testing.assert_close(batched(rows, atoms, 0.05)[0], whole, rtol=0, atol=1e-12)
    assert batched(rows[:0], atoms, 0.05)[0].shape == (0, n_atoms)


@pytest.mark.parametrize("n_atoms", [9, 30])
def test_the_public_door_with_rows_that_are_left_over(n_atoms, monkeypatch):
    """As on a GPU, where rows marked as unsolved go to the CPU's kernels."""
    rows, atoms = problem(200, n_atoms, 9, seed=4)
    batch = lasso_batched.solve

    def forgetful(*arguments):
        codes, solved, violation, slack = batch(*arguments)
        solved[::3] = False
        return codes.where(solved[:, None], 0), solved, violation, slack

    monkeypatch.setattr(lasso_batched, "solve", forgetful)
    found = sys.modules[lasso.__module__]._solve_where_rows_are(rows, atoms, 0.05, 0.05, 1e-9, 1000, None)
    codes, objective, optimality, rounding, _, fallback_fraction = found
    expected = lasso(rows, atoms, 0.05)
    torch.testing.assert_close(codes, expected.codes, rtol=0, atol=1e-10)
    assert objective == pytest.approx(expected.objective[-1], rel=1e-12)
    assert optimality <= 1e-9 * 0.05 + rounding
    assert fallback_fraction == pytest.approx(67 / 200)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("n_atoms", "d"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_on_a_gpu_are_coded_there(n_atoms, d, dtype):
    rows, atoms = (part.to(dtype) for part in problem(5000, n_atoms, d, seed=5))
    there, here = lasso(rows.cuda(), atoms.cuda(), 0.05), lasso(rows, atoms, 0.05)
    assert there.codes.is_cuda
    assert there.converged
    assert there.details["fallback_fraction"] < 0.02
    assert there.objective[-1] == pytest.approx(here.objective[-1], rel=1e-9)
    torch.testing.assert_close(there.codes.cpu(), here.codes, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-9)
