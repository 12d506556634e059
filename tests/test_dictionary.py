"""Dictionary learning: never rises, reproduces, finds planted atoms."""

import inspect
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import planted

from filtersub.decomposition import DecompositionConfig
from filtersub.dictionary import LEARNERS, learn_dictionary, update_atoms
from filtersub.dictionary.alternate import Coding, Stop, Task, alternate, extrapolated
from filtersub.errors import FiltersubError
from filtersub.sparse_coding import SOLVERS, encode, kkt_violation, lasso_objective
from filtersub.tuning import FilterSubspaceConfig

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


MORE_LEARNERS = [("omp", "ksvd"), ("omp", "approximate-ksvd"), ("lasso", "online")]
NONNEGATIVE = ("lasso", "fista", "ista", "spams", "sklearn", "mp", "omp", "ormp")


@pytest.mark.parametrize(
    ("solver", "nonnegative"), [(name, False) for name in SOLVERS] + [(name, True) for name in NONNEGATIVE]
)
def test_learning_with_any_solver_never_rises_repeats_its_bits_and_is_canonical(solver, nonnegative):
    settings = {"solver": solver, "l1_penalty": 0.05, "nonnegative": nonnegative, "max_rounds": 12, "seed": 1}
    one, other = (learn_dictionary(NOISY[:200], 6, **settings) for _ in range(2))
    assert max(np.diff(one.objective), default=0.0) <= 0
    assert torch.equal(one.atoms, other.atoms)
    assert torch.equal(one.codes, other.codes)
    torch.testing.assert_close(one.atoms.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert max(np.diff(one.codes.square().sum(0))) <= 0
    peaks = one.atoms.gather(1, one.atoms.abs().argmax(1, keepdim=True))
    assert float(one.codes.min()) >= 0 if nonnegative else bool((peaks > 0).all())


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


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_atoms_are_in_order_where_squares_leave_the_range_of_float32(scale):
    rows = torch.randn(200, 9, generator=torch.Generator().manual_seed(0)) * scale
    energy = learn_dictionary(rows, 6, solver="omp", n_nonzero=2).codes.double().square().sum(0)
    assert bool((energy.diff() <= 0).all())


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


@pytest.mark.parametrize(("solver", "learner"), [(s, "alternating") for s in ("lasso", "spams", "omp")] + MORE_LEARNERS)
def test_an_atom_dead_from_the_start_ends_in_use(solver, learner):
    rows = torch.randn(400, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[:, 8] = 0
    start = torch.nn.functional.normalize(rows[:6])
    start[2] = torch.eye(9, dtype=torch.float64)[8]  # at right angles to every row
    settings = {"solver": solver, "learner": learner, "l1_penalty": 0.1, "n_nonzero": 2, "max_rounds": 20}
    learned = learn_dictionary(rows, 6, atoms_init=start, **settings)
    assert int((learned.codes != 0).sum(0).min()) > 100
    assert float(learned.atoms[:, 8].abs().max()) == 0


def test_kernels_of_zeros_are_learned_as_zeros():
    learned = learn_dictionary(torch.zeros(20, 9), 3)
    assert learned.codes.count_nonzero() == 0
    assert bool(torch.isfinite(learned.atoms).all())


@pytest.mark.parametrize("n_atoms", [0, -3, 601, 2.5, True])
def test_bad_numbers_of_atoms_are_named(n_atoms):
    with pytest.raises(FiltersubError, match="atoms"):
        learn_dictionary(NOISY, n_atoms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_atoms", [6, 20])
def test_sweeps_lower_the_objective_and_report_it(dtype, n_atoms):
    rows = NOISY.to(dtype)
    coder = Task("lasso", n_atoms, 0.05, None, False).coder(rows)
    atoms = torch.nn.functional.normalize(NOISY[:n_atoms]).numpy()
    here = torch.from_numpy(atoms).to(dtype)
    values = []
    for _ in range(30):
        found = coder.round(atoms, 10)
        values.append(found.objective)
        # float64 tells products of float32 apart, the sums over 64 rows of which are float32's
        assert found.objective == pytest.approx(
            lasso_objective(rows, here, coder.codes, 0.05), rel=1e-6 if dtype == torch.float32 else 1e-12
        )
    assert max(np.diff(values)) <= (1e-6 if dtype == torch.float32 else 1e-13) * values[0]
    codes = coder.codes.double()
    scale = 1e-6 if dtype == torch.float32 else 1e-13
    np.testing.assert_allclose(found.gram, codes.T @ codes, atol=scale * float((codes.T @ codes).max()))
    np.testing.assert_allclose(found.target, codes.T @ rows.double(), atol=scale * float((codes.T @ codes).max()))
    assert values[-1] == pytest.approx(encode(NOISY, here.double(), "lasso", l1_penalty=0.05).objective[-1], rel=2e-3)


def test_sweeps_of_nonnegative_codes_stay_so_and_end_at_the_optimum():
    coder = Task("lasso", 6, 0.05, None, True).coder(NOISY)
    atoms = torch.nn.functional.normalize(NOISY[:6])
    for _ in range(200):
        coder.round(atoms.numpy(), 4)
    assert float(coder.codes.min()) == 0
    assert kkt_violation(NOISY, atoms, coder.codes, 0.05, nonnegative=True) < 1e-9


@pytest.mark.parametrize("n_rows", [1, 63, 64, 600])
def test_any_number_of_rows_is_swept(n_rows):
    coder = Task("lasso", 3, 0.05, None, False).coder(NOISY[:n_rows])
    atoms = torch.nn.functional.normalize(NOISY[:3])
    for _ in range(100):
        coder.round(atoms.numpy(), 4)
    torch.testing.assert_close(coder.codes, encode(NOISY[:n_rows], atoms, "lasso", l1_penalty=0.05).codes)


def test_extrapolation_ends_lower_than_the_same_number_of_plain_rounds(monkeypatch):
    atoms = torch.nn.functional.normalize(NOISY[:6]).numpy()
    task = Task("lasso", 6, 0.05, None, False)

    def after(rounds):
        return alternate(task.coder(NOISY), atoms, Stop(rounds, 0.0), 0.05).history[-1]

    ahead = after(25)
    monkeypatch.setattr("filtersub.dictionary.alternate.extrapolated", lambda moved, *_: moved)
    assert ahead < after(25)


@pytest.mark.parametrize("seed", [0, 1])
def test_codes_that_fall_behind_are_noticed(seed):
    # a penalty far below the heavy-tailed, correlated rows: sweeps alone creep, and the atoms would follow stale codes
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(9, 9, generator=generator, dtype=torch.float64).tril() + torch.eye(9, dtype=torch.float64)
    rows = torch.randn(1500, 9, generator=generator, dtype=torch.float64) ** 3 @ mixing
    task = Task("lasso", 9, 1e-3 * float(rows.std()), None, False)
    atoms = torch.nn.functional.normalize(rows[100 * seed : 100 * seed + 9]).numpy()
    swept = alternate(task.coder(rows), atoms, Stop(300, 3e-5), task.l1_penalty)
    in_full = alternate(Coding(rows, task), atoms, Stop(300, 3e-5), task.l1_penalty)
    assert max(np.diff(swept.history)) <= 0
    assert swept.history[-1] < 1.05 * in_full.history[-1]


def test_extrapolated_atoms_are_on_the_sphere_and_fixed_ones_stay():
    moved, before = (torch.nn.functional.normalize(NOISY[a:b]).numpy() for a, b in ((0, 4), (4, 8)))
    ahead = extrapolated(moved, before, 0.7, np.array([2]))
    np.testing.assert_allclose(np.linalg.norm(ahead, axis=1), 1.0)
    np.testing.assert_array_equal(ahead[2], moved[2])
    assert not np.allclose(ahead[0], moved[0])


def test_results_do_not_depend_on_the_number_of_threads():
    rows = NOISY.float().repeat(30, 1) + 0.01 * torch.randn(18000, 9, generator=torch.Generator().manual_seed(5))
    threads, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            found.append(learn_dictionary(rows, 6, l1_penalty=0.05, tol=1e-3))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert torch.equal(other.atoms, found[0].atoms)
        assert torch.equal(other.codes, found[0].codes)
        assert other.objective == found[0].objective


def test_learning_goes_on_where_it_stopped():
    begun = learn_dictionary(NOISY, 6, l1_penalty=0.05, max_rounds=3)
    assert (begun.converged, begun.stopped) == (False, "3 rounds spent")
    resumed = learn_dictionary(NOISY, 6, l1_penalty=0.05, atoms_init=begun, tol=1e-7)
    assert resumed.objective[0] == pytest.approx(begun.objective[-1], rel=1e-9)
    assert resumed.objective[-1] < begun.objective[-1]
    assert resumed.converged
    assert "fell by less than 3.3e-08" in resumed.stopped


def test_of_several_starts_the_lowest_is_kept():
    rows = torch.randn(300, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 3
    alone = [learn_dictionary(rows, 4, l1_penalty=0.1, tol=1e-4, n_starts=1, seed=s).objective[-1] for s in range(8)]
    assert max(alone) > 1.001 * min(alone)
    first = learn_dictionary(rows, 4, l1_penalty=0.1, tol=1e-4, n_starts=1, seed=7)
    best = learn_dictionary(rows, 4, l1_penalty=0.1, tol=1e-4, n_starts=8, seed=7)
    assert best.objective[-1] <= first.objective[-1]
    assert best.objective[-1] < sorted(alone)[4]
    assert best.rounds > 4 * len(best.objective)


def test_no_rounds_code_the_atoms_given():
    given = torch.eye(9, dtype=torch.float64)[:4]
    coded = learn_dictionary(NOISY, 4, l1_penalty=0.05, atoms_init=given, max_rounds=0)
    assert coded.converged
    assert torch.equal(coded.atoms.abs().sort(0).values, given.sort(0).values)
    assert coded.objective[-1] == pytest.approx(encode(NOISY, given, "lasso", l1_penalty=0.05).objective[-1])


def test_rounds_are_told_and_an_interrupt_passes_through():
    heard = []
    learned = learn_dictionary(NOISY, 6, l1_penalty=0.05, n_starts=1, on_round=lambda *state: heard.append(state))
    assert [number for number, _ in heard] == list(range(len(heard)))
    assert [value for _, value in heard] == pytest.approx(learned.objective[: len(heard)])

    def stop(number, objective):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_dictionary(NOISY, 6, l1_penalty=0.05, on_round=stop)


def test_agrees_with_scikit_learn_on_a_small_problem():
    from sklearn.decomposition import dict_learning

    codes, atoms, *_ = dict_learning(NOISY.numpy(), 6, alpha=0.05, method="cd", max_iter=60, tol=1e-6, random_state=0)
    theirs = lasso_objective(NOISY, torch.from_numpy(atoms), torch.from_numpy(codes), 0.05)
    ours = min(learn_dictionary(NOISY, 6, l1_penalty=0.05, tol=1e-7, seed=s).objective[-1] for s in range(3))
    assert ours <= 1.001 * theirs


def test_zero_rows_have_valid_atoms():
    learned = learn_dictionary(torch.zeros(20, 9), 3)
    assert learned.converged
    assert learned.stopped == "every row is zero"
    torch.testing.assert_close(learned.atoms.norm(dim=1), torch.ones(3))


def test_a_penalty_beyond_every_code_is_told_with_its_limit():
    largest = float(NOISY.norm(dim=1).max())
    with pytest.warns(UserWarning, match=f"{largest:.6g}"):
        learned = learn_dictionary(NOISY, 6, l1_penalty=1.01 * largest)
    assert learned.codes.count_nonzero() == 0
    kept = learn_dictionary(NOISY, 6, l1_penalty=0.99 * largest)
    assert kept.codes.count_nonzero() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "kmeans"}, "did you mean 'kmeans[+][+]'"),
        ({"learner": "onlin"}, "did you mean 'online'"),
        ({"solver": "laso"}, "did you mean 'lasso'"),
        ({"learner": "ksvd"}, "omp"),
        ({"learner": "approximate-ksvd"}, "omp"),
        ({"learner": "online", "solver": "pca"}, "closed form"),
        ({"init": "dct"}, "patch_shape"),
        ({"init": "dct", "patch_shape": (1, 2, 2, 1)}, "has 4 numbers, but the rows have 9"),
        ({"init": "fourier-bessel", "patch_shape": (3, 1, 3)}, None),
        ({"init": "fourier-bessel", "patch_shape": (9, 1)}, "square spatial"),
        ({"atoms_init": torch.ones(5, 9)}, r"\(6, 9\), got \(5, 9\)"),
        ({"atoms_init": torch.cat([torch.eye(9)[:5], torch.zeros(1, 9)])}, "atom 5 of atoms_init is zero"),
        ({"atoms_init": torch.full((6, 9), float("nan"))}, "NaN"),
        ({"max_rounds": -1}, "max_rounds"),
        ({"tol": float("nan")}, "tol"),
        ({"n_starts": 0}, "n_starts"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"l1_penalty": -1.0}, "penalty"),
    ],
)
def test_bad_settings_are_named(settings, message):
    if message is None:  # two axes of three positions are a square patch, wherever the channels stand
        assert learn_dictionary(NOISY, 6, l1_penalty=0.05, max_rounds=1, **settings).atoms.shape == (6, 9)
        return
    with pytest.raises(FiltersubError, match=message):
        learn_dictionary(NOISY, 6, **settings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((20, 9), float("nan")), "NaN"),
        (torch.ones(20), "must be"),
        (torch.ones(20, 9, dtype=torch.int64), "float32"),
        (torch.ones(0, 9), "must be"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(FiltersubError, match=message):
        learn_dictionary(rows, 1)


def test_pca_has_at_most_as_many_atoms_as_numbers():
    with pytest.raises(FiltersubError, match="at most"):
        learn_dictionary(NOISY, 10, solver="pca")


def test_every_learner_is_reproducible():
    for learner in LEARNERS:
        solver = "omp" if "ksvd" in learner else "lasso"
        one, other = (
            learn_dictionary(NOISY, 6, solver=solver, l1_penalty=0.05, learner=learner, max_rounds=4, seed=3)
            for _ in range(2)
        )
        assert torch.equal(one.codes, other.codes), learner


def test_defaults_have_one_source():
    """What learn_dictionary does unless it is told is what every recipe records."""
    names = {"l1_penalty": "l1_penalty", "nonzeros": "n_nonzero"}
    of_learning = inspect.signature(learn_dictionary).parameters
    adapter = {field.name: field.default for field in fields(FilterSubspaceConfig)}
    for field in fields(DecompositionConfig):
        assert adapter[field.name] == field.default, field.name
        name = names.get(field.name, field.name)
        if name in of_learning:
            assert of_learning[name].default == field.default, field.name


FIRST = """
import sys
import torch
from filtersub.dictionary import learn

marks, real = [], learn.time.perf_counter


class Clock:
    @staticmethod
    def perf_counter():
        marks.append(frozenset(sys.modules))
        return real()


learn.time = Clock
rows = torch.randn(90, 9, generator=torch.Generator().manual_seed(0))
for options in ({"solver": "pca"}, {}, {"solver": "omp"}, {"solver": "fista"}, {"init": "kmeans++"}):
    for again in range(2):
        marks.clear()
        learn.learn_dictionary(rows, 4, max_rounds=2, l1_penalty=0.01, **options)
        # four marks where a rehearsal went before, two where it is known
        print(len(marks), len(marks[-1] - marks[-2]))
"""


def test_no_import_is_in_the_seconds_of_the_first_result():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["4 0", "2 0"] * 5


@pytest.mark.parametrize("solver", ["omp", "mp", "lasso"])
def test_rows_that_are_rebuilt_exactly_end_the_learning(solver):
    """1 x 1 kernels without blocks have rows of one entry, which any atom rebuilds: the objective is 0 at once."""
    rows = torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = learn_dictionary(rows, 3, solver=solver, l1_penalty=0.0, n_nonzero=1 if solver != "lasso" else None)
    assert torch.allclose(found.codes @ found.atoms, rows, atol=1e-12)
    assert found.converged
