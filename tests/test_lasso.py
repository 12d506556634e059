"""The exact LASSO: its optimality conditions, other solvers, closed forms, and what it must not depend on."""

import importlib.util
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import softshrink

from filtersub.errors import ConvergenceWarning, FiltersubError
from filtersub.sparse_coding.lasso import lasso
from filtersub.sparse_coding.result import kkt_violation, lasso_objective

# The solver promises 1e-9 of the penalty plus rounding; both sides of the check round at about 1e-16 of the
# correlations, which is below 1e-9 of the smallest penalty here.
KKT = 1e-8


def problem(n_rows, n_atoms, d, *, seed=0, dtype=torch.float64, heavy_tails=True):
    """Rows of correlated entries and very different norms, unit-norm atoms of the same kind."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5 + torch.eye(d)
    rows = torch.randn(n_rows, d, generator=generator, dtype=torch.float64) @ mixing
    if heavy_tails:
        rows *= torch.randn(n_rows, 1, generator=generator, dtype=torch.float64).exp()
    atoms = torch.randn(n_atoms, d, generator=generator, dtype=torch.float64) @ mixing
    atoms /= atoms.norm(dim=1, keepdim=True)
    return rows.to(dtype), atoms.to(dtype)


def assert_solved(rows, atoms, result, l1_penalty):
    assert result.converged
    assert kkt_violation(rows, atoms, result.codes, l1_penalty) <= KKT * l1_penalty
    assert result.optimality <= KKT * l1_penalty
    value = lasso_objective(rows, atoms, result.codes, l1_penalty)
    assert result.objective[-1] == pytest.approx(value, rel=1e-11)


@pytest.mark.parametrize("l1_penalty", [1e-3, 0.03, 0.5])
@pytest.mark.parametrize(
    ("n_atoms", "d"),
    [(1, 1), (1, 9), (3, 9), (6, 9), (8, 9), (9, 9), (12, 9), (13, 4), (14, 9), (40, 9), (30, 30), (72, 16), (60, 80)],
)
def test_every_row_meets_the_optimality_conditions(n_atoms, d, l1_penalty):
    rows, atoms = problem(700, n_atoms, d, seed=n_atoms)  # neither a multiple of the block nor below one
    assert_solved(rows, atoms, lasso(rows, atoms, l1_penalty), l1_penalty)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_atoms", "d"), [(9, 9), (30, 40)])
def test_codes_of_rows_on_a_gpu_are_those_of_the_cpu_and_lie_beside_the_rows(n_atoms, d, dtype):
    rows, atoms = problem(700, n_atoms, d, seed=5, dtype=dtype)
    there, here = lasso(rows.cuda(), atoms.cuda(), 0.05), lasso(rows, atoms, 0.05)
    assert there.codes.is_cuda
    assert torch.equal(there.codes.cpu(), here.codes)
    assert there.objective == here.objective


@pytest.mark.parametrize("n_atoms", [5, 12, 30])
def test_repeated_opposite_and_zero_atoms(n_atoms):
    rows, atoms = problem(500, n_atoms, 9, seed=1)
    alone = lasso(rows, atoms[3:], 0.05)
    atoms[0], atoms[1], atoms[2] = atoms[3], -atoms[3], 0
    result = lasso(rows, atoms, 0.05)
    assert_solved(rows, atoms, result, 0.05)
    assert result.objective[-1] == pytest.approx(alone.objective[-1], rel=1e-12)
    assert not result.codes[:, 2].any()


@pytest.mark.parametrize("n_atoms", [6, 12, 20])
@pytest.mark.parametrize("noise", [1e-4, 1e-6, 1e-8, 1e-10])
def test_nearly_repeated_atoms(n_atoms, noise):
    rows, atoms = problem(300, n_atoms, 9, seed=2)
    atoms[1] = atoms[0] + noise * atoms[1]
    atoms[2] = -atoms[0] + noise * atoms[2]
    result = lasso(rows, atoms, 0.05, tol=1e-6)
    assert result.converged
    assert kkt_violation(rows, atoms, result.codes, 0.05) <= 1.1e-6 * 0.05


@pytest.mark.parametrize("n_atoms", [7, 12, 25])
def test_objective_agrees_with_scikit_learn(n_atoms):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn as a reference")
    rows, atoms = problem(40, n_atoms, 9, seed=3, heavy_tails=False)
    model = linear_model.Lasso(alpha=0.1 / 9, fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    codes = torch.from_numpy(model.fit(atoms.T.numpy(), rows.T.numpy()).coef_)
    reference = lasso_objective(rows, atoms, codes, 0.1)
    assert lasso(rows, atoms, 0.1).objective[-1] == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize(("n_atoms", "d"), [(9, 9), (12, 9), (60, 16)])
@pytest.mark.parametrize("l1_penalty", [0.01, 0.2])
def test_objective_agrees_with_spams(n_atoms, d, l1_penalty):
    spams = pytest.importorskip("spams", reason="needs the extra filtersub[spams] as a reference")
    rows, atoms = problem(1000, n_atoms, d, seed=4)
    signals, dictionary = np.asfortranarray(rows.T.numpy()), np.asfortranarray(atoms.T.numpy())
    # spams sets the threads of the whole process, torch's among them, to what it is given, or to all there are
    found = spams.lasso(signals, dictionary, lambda1=l1_penalty, mode=2, numThreads=torch.get_num_threads())
    reference = lasso_objective(rows, atoms, torch.from_numpy(found.toarray().T), l1_penalty)
    assert lasso(rows, atoms, l1_penalty).objective[-1] == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("n_atoms", [9, 12, 30])
@pytest.mark.parametrize("spread", [0.0, 0.01, 10.0])
def test_start_does_not_change_the_optimum(n_atoms, spread):
    rows, atoms = problem(500, n_atoms, 9, seed=5)
    cold = lasso(rows, atoms, 0.05)
    start = cold.codes + spread * torch.randn(cold.codes.shape, generator=torch.Generator().manual_seed(0))
    kept = start.clone()
    warm = lasso(rows, atoms, 0.05, codes_init=start)
    assert_solved(rows, atoms, warm, 0.05)
    assert warm.objective[-1] == pytest.approx(cold.objective[-1], rel=1e-12)
    assert torch.equal(start, kept)


@pytest.mark.parametrize("n_atoms", [5, 12])
def test_what_another_dictionary_left_in_the_table_does_not_matter(n_atoms):
    """Rooms of tables are used again: of a dependent set a vector stays behind, of products beyond float64 infinity."""
    rows, atoms = problem(1000, n_atoms, 9)
    wanted = lasso(rows, atoms, 0.05).codes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lasso(rows, atoms * torch.tensor([1, 1e-150, 1e250] + [1] * (n_atoms - 3), dtype=torch.float64)[:, None], 0.05)
    assert torch.equal(lasso(rows, atoms, 0.05).codes, wanted)
    repeated = atoms.clone()
    repeated[2], repeated[4] = repeated[1], -repeated[3]
    lasso(rows, repeated, 0.05)
    assert torch.equal(lasso(rows, atoms, 0.05).codes, wanted)


def test_start_from_an_uncodable_place():
    rows, atoms = problem(50, 12, 9, seed=6)
    start = torch.full((50, 12), float("nan"), dtype=torch.float64)
    start[::2] = float("inf")
    assert_solved(rows, atoms, lasso(rows, atoms, 0.05, codes_init=start), 0.05)


@pytest.mark.parametrize(("n_atoms", "d"), [(12, 9), (30, 9), (60, 64)])
def test_codes_do_not_depend_on_the_number_of_threads(n_atoms, d):
    rows, atoms = problem(5000, n_atoms, d, seed=7)
    before, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(lasso(rows, atoms, 0.05))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0].codes, other.codes)
        assert results[0].objective == other.objective
        assert results[0].optimality == other.optimality


@pytest.mark.parametrize("n_atoms", [9, 12, 30])
def test_float32_rows_give_the_float64_codes_rounded(n_atoms):
    rows, atoms = problem(500, n_atoms, 9, seed=8, dtype=torch.float32)
    single, double = lasso(rows, atoms, 0.05), lasso(rows.double(), atoms.double(), 0.05)
    assert single.codes.dtype == torch.float32
    # the guess is the same for both, so even where the optimum is not unique the codes are
    assert torch.equal(single.codes, double.codes.float())
    assert single.objective == double.objective
    assert single.optimality == double.optimality <= KKT * 0.05


@pytest.mark.parametrize("d", [6, 20])
def test_orthonormal_atoms_are_soft_thresholding(d):
    rows, square = problem(300, d, d, seed=9)
    atoms = torch.linalg.qr(square).Q.contiguous()
    torch.testing.assert_close(lasso(rows, atoms, 0.3).codes, softshrink(rows @ atoms.T, 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_atoms", [9, 30])
def test_codes_vanish_from_the_critical_penalty_upwards(n_atoms):
    rows, atoms = problem(200, n_atoms, 9, seed=10)
    critical = float((rows @ atoms.T).abs().max())
    assert not lasso(rows, atoms, critical * (1 + 1e-12)).codes.any()
    assert int(lasso(rows, atoms, critical * (1 - 1e-6)).codes.count_nonzero()) == 1


@pytest.mark.parametrize("n_atoms", [5, 9, 12, 30])
def test_zero_penalty_is_least_squares(n_atoms):
    rows, atoms = problem(200, n_atoms, 9, seed=11)
    result = lasso(rows, atoms, 0.0)
    expected = torch.linalg.lstsq(atoms.T, rows.T, driver="gelsd").solution.T
    assert result.converged
    torch.testing.assert_close(result.codes, expected)
    if n_atoms >= 9:
        torch.testing.assert_close(result.codes @ atoms, rows)


@pytest.mark.parametrize("n_atoms", [6, 12, 30])
def test_no_row_one_row_and_zero_rows(n_atoms):
    rows, atoms = problem(130, n_atoms, 9, seed=12)
    rows[64] = 0
    every = lasso(rows, atoms, 0.05)
    assert not every.codes[64].any()
    for single in (0, 63, 64, 129):
        assert torch.equal(lasso(rows[single : single + 1], atoms, 0.05).codes, every.codes[single : single + 1])
    none = lasso(rows[:0], atoms, 0.05)
    assert none.codes.shape == (0, n_atoms)
    assert none.converged
    assert none.objective[-1] == 0
    assert not lasso(torch.zeros_like(rows), atoms, 0.05).codes.any()
    assert not lasso(rows, torch.zeros_like(atoms), 0.05).codes.any()


@pytest.mark.parametrize("n_atoms", [12, 30])
def test_strides_do_not_matter(n_atoms):
    rows, atoms = problem(200, n_atoms, 9, seed=13)
    expected = lasso(rows, atoms, 0.05, codes_init=torch.ones(200, n_atoms, dtype=torch.float64))
    strided = lasso(
        rows.T.contiguous().T,
        atoms.repeat_interleave(2, 1)[:, ::2],
        0.05,
        codes_init=torch.ones(1, 1, dtype=torch.float64).expand(200, n_atoms),
    )
    assert torch.equal(expected.codes, strided.codes)
    assert strided.codes.is_contiguous()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("n_atoms", [12, 30])
def test_scale_does_not_matter(n_atoms, scale):
    rows, atoms = problem(300, n_atoms, 9, seed=14)
    expected = lasso(rows, atoms, 0.05)
    result = lasso(rows * scale, atoms, 0.05 * scale)
    assert result.converged
    assert result.objective[-1] == pytest.approx(expected.objective[-1] * scale**2, rel=1e-9)
    long_atoms = lasso(rows, atoms * scale, 0.05 * scale)
    assert long_atoms.objective[-1] == pytest.approx(expected.objective[-1], rel=1e-9)


@pytest.mark.parametrize("n_atoms", [12, 30])
def test_too_few_exchanges_are_reported(n_atoms):
    rows, atoms = problem(300, n_atoms, 9, seed=15)
    start = torch.randn(300, n_atoms, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        result = lasso(rows, atoms, 1e-3, max_iter=1, codes_init=start)
    assert not result.converged
    assert result.optimality == pytest.approx(kkt_violation(rows, atoms, result.codes, 1e-3), rel=1e-6)


@pytest.mark.parametrize("l1_penalty", [1e-3, 0.1])
@pytest.mark.parametrize(("n_atoms", "d"), [(1, 9), (6, 9), (9, 9), (12, 9), (13, 4), (30, 9), (30, 30), (60, 40)])
def test_nonnegative_codes_meet_their_optimality_conditions(n_atoms, d, l1_penalty):
    rows, atoms = problem(600, n_atoms, d, seed=16)
    result = lasso(rows, atoms, l1_penalty, nonnegative=True)
    left = rows @ atoms.T - result.codes @ (atoms @ atoms.T)
    violation = torch.where(result.codes > 0, (left - l1_penalty).abs(), (left - l1_penalty).clamp_min(0)).max()
    assert result.converged
    assert result.codes.min() >= 0
    assert (result.codes > 0).any()
    assert float(violation) <= KKT * l1_penalty
    assert result.optimality == pytest.approx(float(violation), abs=KKT * l1_penalty)
    assert result.objective[-1] == pytest.approx(lasso_objective(rows, atoms, result.codes, l1_penalty), rel=1e-11)
    start = lasso(rows, atoms, l1_penalty).codes  # with codes of either sign
    warm = lasso(rows, atoms, l1_penalty, nonnegative=True, codes_init=start)
    assert warm.codes.min() >= 0
    assert warm.objective[-1] == pytest.approx(result.objective[-1], rel=1e-12)


@pytest.mark.parametrize("n_atoms", [9, 30])
def test_opposite_atoms_make_nonnegative_codes_those_of_either_sign(n_atoms):
    rows, atoms = problem(300, n_atoms // 2, 9, seed=17)
    both = lasso(rows, torch.cat((atoms, -atoms)), 0.05, nonnegative=True)
    assert both.objective[-1] == pytest.approx(lasso(rows, atoms, 0.05).objective[-1], rel=1e-12)


@pytest.mark.parametrize("n_atoms", [6, 30])
def test_nonnegative_least_squares(n_atoms):
    optimize = pytest.importorskip("scipy.optimize", reason="needs scipy as a reference")
    rows, atoms = problem(60, n_atoms, 40, seed=18, heavy_tails=False)
    result = lasso(rows, atoms, 0.0, nonnegative=True)
    expected = np.stack([optimize.nnls(atoms.T.numpy(), row)[0] for row in rows.numpy()])
    assert result.converged
    np.testing.assert_allclose(result.codes.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(("n_atoms", "d"), [(12, 9), (72, 16), (60, 60)])
def test_other_libraries_keep_their_threads(n_atoms, d):
    numba = pytest.importorskip("numba")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    rows, atoms = problem(3000, n_atoms, d, seed=19)

    def settings():
        pools = sorted((pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info())
        return torch.get_num_threads(), torch.get_num_interop_threads(), numba.get_num_threads(), pools

    lasso(rows, atoms, 0.05)
    n_threads = torch.get_num_threads()
    settings()  # asking numba starts its threads, which the kernels never do, and as many of OpenMP's, which torch uses
    torch.set_num_threads(n_threads)
    before, alive = settings(), threading.active_count()
    lasso(rows, atoms, 0.05)
    assert settings() == before
    assert threading.active_count() == alive


def test_may_run_several_times_at_once():
    rows, atoms = problem(4000, 40, 9, seed=20)
    expected = lasso(rows, atoms, 0.05).codes
    results = [None] * 4

    def work(place):
        results[place] = lasso(rows, atoms, 0.05).codes

    workers = [threading.Thread(target=work, args=(place,)) for place in range(len(results))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(codes, expected) for codes in results)


def test_bad_input_names_what_is_wrong():
    rows, atoms = problem(4, 3, 9)
    with pytest.raises(FiltersubError, match=r"\(4, 9\).*\(3, 8\)"):
        lasso(rows, atoms[:, :8], 0.1)
    with pytest.raises(FiltersubError, match="penalty"):
        lasso(rows, atoms, -0.1)
    with pytest.raises(FiltersubError, match="codes_init"):
        lasso(rows, atoms, 0.1, codes_init=torch.zeros(4, 4))
    with pytest.raises(FiltersubError, match="NaN"):
        lasso(rows * float("nan"), atoms, 0.1)
    with pytest.raises(FiltersubError, match="float"):
        lasso(rows.long(), atoms, 0.1)


def test_import_does_not_load_numba():
    assert importlib.util.find_spec("numba")
    code = "import sys, filtersub.sparse_coding.lasso; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
