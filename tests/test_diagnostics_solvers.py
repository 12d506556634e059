"""Solvers and penalties: every row of the tables means what it says."""

import pytest
import torch
from conftest import planted

from filtersub import diagnostics
from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.sparse_coding import SOLVERS, encode, kkt_violation, lasso_objective

L1 = 0.05


@pytest.fixture(scope="module")
def problem():
    rows, atoms, _ = planted(300, 6, 9, 3)
    return rows, atoms


@pytest.fixture(scope="module")
def table(problem):
    return diagnostics.solver_table(*problem, L1, repeats=1)


def test_every_solver_has_a_row(table):
    assert table["solver"].tolist() == list(SOLVERS)
    ran = table[table["note"] == ""]
    assert {"lasso", "fista", "omp", "pca"} <= set(ran["solver"])
    assert (ran["seconds"] > 0).all()
    assert (ran["rows_per_second"] * ran["seconds"]).to_numpy() == pytest.approx(300)


def test_solvers_are_judged_by_one_objective(problem, table):
    rows, atoms = problem
    judged = table.set_index("solver")
    codes = encode(rows, atoms, "lasso", l1_penalty=L1).codes
    assert judged.loc["lasso", "objective"] == lasso_objective(rows, atoms, codes, L1)
    assert judged.loc["lasso", "kkt_over_penalty"] == pytest.approx(kkt_violation(rows, atoms, codes, L1) / L1)
    assert judged.loc["lasso", "relative_gap"] < 1e-12
    assert judged.loc["lasso", "kkt_over_penalty"] < 1e-6
    assert (judged["relative_gap"].dropna() >= 0).all()
    assert judged.loc["pca", "relative_gap"] > 1e-3  # least squares pays no penalty, so it is no optimum of the LASSO
    assert judged.loc["pca", "relative_error"] == pytest.approx(0, abs=1e-12)  # but rebuilds what was planted


def test_the_gap_closes_with_the_steps(problem, table):
    gaps = diagnostics.gap_table(*problem, L1, steps=(1, 10, 100, 2000), repeats=1, table=table)
    fista = gaps[gaps["solver"] == "fista"]
    assert len(fista) > 2
    assert fista["stepwise"].all()
    assert (fista["relative_gap"].diff().dropna() < 1e-12).all()  # falls, up to rounding at the end
    assert fista["relative_gap"].iloc[0] > 1e-2
    assert fista["relative_gap"].iloc[-1] < 1e-9
    assert fista["iterations"].is_monotonic_increasing
    others = gaps[~gaps["stepwise"]]
    assert others["solver"].is_unique
    assert set(gaps["solver"]) == set(table.dropna(subset=["objective"])["solver"])


def test_a_solver_that_cannot_run_says_why(problem, monkeypatch):
    from filtersub.sparse_coding import reference

    def missing(*_):
        raise FiltersubError("solver 'spams' needs the package spams-bin")

    monkeypatch.setattr(reference, "_import_spams", missing)
    table = diagnostics.solver_table(*problem, L1, solvers=["lasso", "spams"], repeats=1).set_index("solver")
    assert "needs the package" in table.loc["spams", "note"]
    assert table.loc["lasso", "note"] == ""
    assert table["objective"].isna().tolist() == [False, True]


def test_no_penalty_is_no_comparison(problem):
    with pytest.raises(FiltersubError, match="l1_penalty must be positive"):
        diagnostics.solver_table(*problem, 0.0)
    with pytest.raises(FiltersubError, match="unknown solver 'lars'"):
        diagnostics.solver_table(*problem, L1, solvers=["lars"])


@pytest.fixture(scope="module")
def weights():
    return {name: torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(n)) for n, name in enumerate("ab")}


def test_a_larger_penalty_gives_sparser_codes(weights):
    recipe = DecompositionConfig(atoms=5, max_rounds=20)
    path = diagnostics.penalty_path(weights, recipe, [1e-3, 0.1, 1.0, 100.0])
    total = diagnostics.total_over_layers(path)
    assert total["l1_penalty"].tolist() == [1e-3, 0.1, 1.0, 100.0]
    assert total["nonzeros"].is_monotonic_decreasing
    assert total["relative_error"].is_monotonic_increasing
    assert set(total["layers"]) == {2}
    assert (total["coefficients"] == path.groupby("l1_penalty")["coefficients"].sum().to_numpy()).all()
    beyond = path[path["l1_penalty"] >= path["largest_norm"]]
    assert len(beyond) == 2
    assert (beyond["nonzeros"] == 0).all()
    assert beyond["relative_error"].tolist() == [1.0, 1.0]


def test_largest_norm_is_where_the_last_code_vanishes(weights):
    """Just below it the atom along the largest kernel would still pay; from it on none does."""
    norm = float(weights["a"].reshape(48, 9).norm(dim=1).max())
    rows = weights["a"].reshape(48, 9).double()
    atom = rows[rows.norm(dim=1).argmax()][None] / norm
    assert encode(rows, atom, "lasso", l1_penalty=0.999 * norm).density > 0
    assert encode(rows, atom, "lasso", l1_penalty=1.001 * norm).density == 0


def test_a_path_needs_penalties(weights):
    with pytest.raises(FiltersubError, match="penalties is empty; it must be a list of at least one number"):
        diagnostics.penalty_path(weights, DecompositionConfig(), [])
    with pytest.raises(FiltersubError, match="'pca' pays no penalty"):
        diagnostics.penalty_path(weights, DecompositionConfig(solver="pca"), [1e-3])
