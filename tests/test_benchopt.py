"""The benchopt benchmark: its classes load, and its solvers agree on the objective of a tiny problem."""

from pathlib import Path

import pytest

pytest.importorskip("benchopt", reason="the benchmark needs it: pip install benchopt celer")
from benchopt.benchmark import Benchmark
from benchopt.utils.run_context import RunContext

FOLDER = Path(__file__).parents[1] / "benchmarks" / "benchopt"
SOLVERS = ("celer", "filtersub", "scikit-learn", "spams")
TIGHT = 1e-12  # of solvers that take a tolerance


@pytest.fixture(scope="module")
def benchmark():
    return Benchmark(FOLDER)


def problem(benchmark, name, reg=0.3):
    (kind,) = [each for each in benchmark.get_datasets() if each.name == name]
    chosen = {key: values[0] for key, values in kind.test_parameters.items()}
    dataset = kind.get_instance(**chosen)
    RunContext().set_run_context("none", dataset, "none", repetition=0, base_seed=0)
    objective = benchmark.get_benchmark_objective().get_instance(reg=reg)
    objective.set_data(**dataset.get_data())
    return objective


def judged(objective, solver_class):
    solver = solver_class.get_instance()
    solver.set_objective(**objective.get_objective())
    solver.run(TIGHT)
    return objective.evaluate_result(**solver.get_result())


def test_the_benchmark_holds_these_parts(benchmark):
    assert sorted(each.name for each in benchmark.get_solvers()) == sorted(SOLVERS)
    assert sorted(each.name for each in benchmark.get_datasets()) == ["Kernels", "Simulated"]


@pytest.mark.parametrize("name", SOLVERS)
def test_each_solver_reaches_the_optimum(benchmark, name):
    """Against the optimality conditions, which the objective checks for whatever codes it is given."""
    (solver,) = [each for each in benchmark.get_solvers() if each.name == name]
    if not solver.is_installed():
        pytest.skip(f"{name} is not installed")
    objective = problem(benchmark, "Simulated")
    found = judged(objective, solver)
    assert found["kkt_violation"] < 1e-4
    assert 0 < found["density"] < 1
    (exact,) = [each for each in benchmark.get_solvers() if each.name == "filtersub"]
    assert found["value"] == pytest.approx(judged(objective, exact)["value"], rel=1e-9)


def test_the_objective_is_that_of_hand(benchmark):
    """Two rows over the unit vectors: codes are thresholded entries."""
    import numpy as np

    objective = benchmark.get_benchmark_objective().get_instance(reg=0.5)
    objective.set_data(np.array([[2.0, 0.5], [0.0, -4.0]]), np.eye(2))
    assert objective.l1_penalty == 1.5  # half the median of 2 and 4
    best = objective.evaluate_result(np.array([[0.5, 0.0], [0.0, -2.5]]))
    assert best == pytest.approx(
        {"value": 0.5 * (1.5**2 + 0.5**2 + 1.5**2) + 1.5 * 3.0, "kkt_violation": 0, "density": 0.5}
    )
    assert objective.evaluate_result(np.zeros((2, 2)))["kkt_violation"] == pytest.approx((4 - 1.5) / 1.5)


def test_the_kernels_are_real_and_coded(benchmark):
    objective = problem(benchmark, "Kernels")
    assert objective.rows.shape == (2624, 9)
    (exact,) = [each for each in benchmark.get_solvers() if each.name == "filtersub"]
    assert judged(objective, exact)["kkt_violation"] < 1e-9
