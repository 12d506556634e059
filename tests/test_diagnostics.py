"""Tables of a decomposition agree with each other and with plain linear algebra."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from filtersub import diagnostics
from filtersub.decomposition import DecompositionConfig, decompose_model, decompose_weight
from filtersub.diagnostics import welch_bound
from filtersub.errors import FiltersubError
from filtersub.kernels import kernel_matrix, layout_of, named_layers

RECIPE = DecompositionConfig(atoms=3, block=2, l1_penalty=5e-3, max_rounds=5)


@pytest.fixture
def found(every_kind):
    return decompose_model(every_kind, RECIPE, exclude=("classifier",))


def test_kernels_add_up_to_their_layer(every_kind, found):
    table = diagnostics.kernel_table(every_kind, found)
    layers = diagnostics.layer_table(found).set_index("name")
    assert len(table) == layers["rows"].sum()
    for name, rows in table.groupby("name"):
        error = math.sqrt((rows["absolute_error"] ** 2).sum() / (rows["norm"] ** 2).sum())
        assert error == pytest.approx(layers.loc[name, "relative_error"], rel=1e-5)  # codes are float32
        assert rows["nonzeros"].sum() == round(layers.loc[name, "density"] * len(rows) * layers.loc[name, "atoms"])
    assert (table["relative_error"] * table["norm"]).to_numpy() == pytest.approx(table["absolute_error"].to_numpy())


def test_a_kernel_of_zeros_has_no_relative_error(every_kind):
    with torch.no_grad():
        every_kind.stem.weight[0, 0] = 0
    found = decompose_model(every_kind, RECIPE, layers="stem")
    table = diagnostics.kernel_table(every_kind, found)
    assert table.loc[0, ["norm", "absolute_error", "nonzeros"]].tolist() == [0, 0, 0]
    assert np.isnan(table.loc[0, "relative_error"])
    assert table["relative_error"].isna().sum() == 1


def test_another_model_is_refused(every_kind, found):
    with pytest.raises(FiltersubError, match="no layer 'stem'"):
        diagnostics.kernel_table({"other": torch.zeros(4, 4, 3, 3)}, found)
    with pytest.raises(FiltersubError, match="has shape"):
        diagnostics.subspace_table(dict.fromkeys(found.layers, torch.zeros(2, 2, 3, 3)), found)


def test_supports_count_every_row_once(found):
    counted, layers = diagnostics.support_table(found), diagnostics.layer_table(found).set_index("name")
    frequent = diagnostics.frequent_supports(found, most=10_000)
    for name, rows in counted.groupby("name"):
        assert rows["nonzeros"].tolist() == list(range(layers.loc[name, "atoms"] + 1))
        assert rows["rows"].sum() == layers.loc[name, "rows"]
        assert rows["fraction"].sum() == pytest.approx(1)
        patterns = frequent[frequent["name"] == name]
        assert patterns["rows"].is_monotonic_decreasing
        assert patterns["atoms"].is_unique
        assert patterns.groupby("nonzeros")["rows"].sum().to_dict() == {
            row.nonzeros: row.rows for row in rows.itertuples() if row.rows
        }


def test_usage_and_energy_of_atoms(found):
    atoms, layers = diagnostics.atom_table(found), diagnostics.layer_table(found).set_index("name")
    for name, rows in atoms.groupby("name"):
        assert rows["usage"].mean() == pytest.approx(layers.loc[name, "density"])
        assert rows["energy_fraction"].sum() == pytest.approx(1)
        assert rows["energy"].is_monotonic_decreasing  # atoms are ordered by it


def test_energies_of_orthonormal_atoms_are_the_rebuilt_energy(every_kind):
    found = decompose_model(every_kind, DecompositionConfig(atoms=3, solver="pca"))
    atoms = diagnostics.atom_table(found).groupby("name")["energy"].sum()
    energies = diagnostics.energy_table(every_kind, found).set_index("name")
    assert atoms[energies.index].to_numpy() == pytest.approx(energies["rebuilt_energy"].to_numpy(), rel=1e-5)
    total = energies["rebuilt_fraction"] + energies["residual_fraction"]
    assert total.to_numpy() == pytest.approx(np.ones(len(total)), rel=1e-5)


def test_a_penalty_leaves_energy_between_the_parts(every_kind, found):
    """At the LASSO's optimum the residual's product with what was rebuilt is l ||alpha||_1, by its KKT conditions."""
    energies = diagnostics.energy_table(every_kind, found).set_index("name")
    missing = 1 - energies["rebuilt_fraction"] - energies["residual_fraction"]
    l1 = pd.Series({name: float(layer.coefficients.abs().sum()) for name, layer in found.layers.items()})
    expected = 2 * RECIPE.l1_penalty * l1 / energies["kernel_energy"]
    assert missing.to_numpy() == pytest.approx(expected[missing.index].to_numpy(), rel=1e-3)


@pytest.mark.parametrize(("n_atoms", "size"), [(3, 2), (4, 3), (6, 5), (16, 9)])
def test_coherence_respects_welch(n_atoms, size):
    atoms = torch.randn(n_atoms, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    largest = float((atoms @ atoms.T - torch.eye(n_atoms)).abs().max())
    assert largest >= welch_bound(n_atoms, size) > 0
    simplex = torch.eye(size + 1, dtype=torch.float64) - 1 / (size + 1)  # d + 1 atoms that meet the bound
    simplex = simplex / simplex.norm(dim=1, keepdim=True)
    assert float((simplex @ simplex.T).abs().fill_diagonal_(0).max()) == pytest.approx(welch_bound(size + 1, size))


def test_coherence_is_the_largest_of_the_pairs(found):
    table = diagnostics.coherence_table(found).set_index("name")
    pairs = diagnostics.correlation_table(found)
    assert (pairs["first"] < pairs["second"]).all()
    for name, rows in pairs.groupby("name"):
        assert len(rows) == table.loc[name, "pairs"] == math.comb(table.loc[name, "atoms"], 2)
        assert rows["correlation"].max() == table.loc[name, "coherence"]
        assert rows["correlation"].mean() == pytest.approx(table.loc[name, "mean"])
        assert rows["correlation"].between(0, 1).all()
    bounded = table[table["bound_applies"]]
    assert (bounded["coherence"] >= bounded["welch_bound"]).all()
    assert set(table["bound_applies"]) == {True, False}  # the sequence kernel has d = 3 atoms of size 3; blocks more


def test_the_spectrum_is_that_of_numpy(every_kind, found):
    table = diagnostics.spectrum_table(every_kind, found)
    modules = dict(named_layers(every_kind))
    for name, rows in table.groupby("name"):
        matrix = kernel_matrix(found.layers[name].layout, modules[name]).double().numpy()
        values = np.linalg.svd(matrix, compute_uv=False)
        padded = np.zeros(matrix.shape[1])
        padded[: len(values)] = values
        assert rows["singular_value"].to_numpy()[1:] == pytest.approx(padded, abs=1e-7 * values[0])
        errors = [np.linalg.norm(padded[k:]) / np.linalg.norm(padded) for k in range(len(padded) + 1)]
        assert rows["best_relative_error"].to_numpy() == pytest.approx(errors, abs=1e-7)


def test_no_atoms_beat_the_best_subspace(every_kind, found):
    table = diagnostics.subspace_table(every_kind, found)
    assert (table["relative_error"] >= table["span_error"] - 1e-7).all()
    assert (table["span_error"] >= table["best_relative_error"] - 1e-7).all()
    assert (table["relative_error"] > table["best_relative_error"] + 1e-4).any()


def test_principal_atoms_are_the_best_subspace(every_kind):
    found = decompose_model(every_kind, DecompositionConfig(atoms=3, solver="pca"))
    table = diagnostics.subspace_table(every_kind, found)
    for column in ("relative_error", "span_error"):
        assert table[column].to_numpy() == pytest.approx(table["best_relative_error"].to_numpy(), abs=1e-6)


def test_the_whole_model_in_one_row(found):
    (row,) = diagnostics.model_table(found).itertuples()
    layers = diagnostics.layer_table(found)
    assert row.layers == len(layers)
    assert row.rows == layers["rows"].sum()
    assert row.relative_error == found.relative_error
    assert row.density == pytest.approx((layers["density"] * layers["rows"] * layers["atoms"]).sum() / row.coefficients)
    assert row.rounds == layers["iterations"].sum()
    assert row.weights == sum(math.prod(shape) for shape in layers["shape"])


@pytest.mark.parametrize("reading", ["shared", "per-channel"])
def test_levels_are_judged_by_the_weight_they_rebuild(every_kind, reading):
    """Each level's error is that of the weight with the chain put in; the tables of D itself do not change."""
    recipe = DecompositionConfig(atoms=3, max_rounds=5, expansion=2, expansion_coefficients=reading)
    found = decompose_model(every_kind, recipe, layers="strided|grouped")
    table = diagnostics.level_table(found).set_index(["name", "level"])
    for name, layer in found.layers.items():
        weight = every_kind.get_submodule(name).weight.detach()
        for level in (0, 1):
            error = float((weight - layer.weight(level)).norm() / weight.norm())
            assert table.loc[(name, level), "weight_error"] == pytest.approx(error, rel=1e-4)
        assert table.loc[(name, 1), ["atoms", "coefficients"]].tolist() == [
            layer.levels[0].atoms.numel() // layer.atoms.shape[1],
            layer.levels[0].coefficients.numel(),
        ]
        assert table.loc[(name, 1), "per_channel"] == (reading == "per-channel")
    kernels = diagnostics.kernel_table(every_kind, found)
    whole = math.sqrt((kernels["absolute_error"] ** 2).sum() / (kernels["norm"] ** 2).sum())
    assert whole == pytest.approx(found.relative_error, rel=1e-5)


def test_costs_are_of_each_layer(every_kind, found):
    table = diagnostics.cost_table(every_kind, found)
    layers = diagnostics.layer_table(found)
    assert table["name"].tolist() == layers["name"].tolist()
    assert table["rounds"].tolist() == layers["iterations"].tolist()
    # the first coding, one a round, a refined one and the last
    assert table["codings_of_all_rows"].between(1, table["rounds"] + 3).all()
    assert (table["optimality_over_penalty"] < 1e-6).all()
    assert (table[["coding_seconds", "rows_per_second"]] > 0).all().all()


def test_the_error_falls_with_m(every_kind):
    curve = diagnostics.error_curve(every_kind, DecompositionConfig(solver="pca"), [1, 2, 3], layers="stem")
    assert curve["m"].tolist() == [1, 2, 3]
    assert curve["relative_error"].is_monotonic_decreasing


def test_tables_take_a_decomposition_of_bare_tensors():
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    found = decompose_model({"a.weight": weight}, DecompositionConfig(atoms=4, max_rounds=3))
    one = decompose_weight(layout_of("a", weight), weight, DecompositionConfig(atoms=4, max_rounds=3))
    table = diagnostics.kernel_table({"a.weight": weight}, found)
    assert len(table) == 24
    assert math.sqrt((table["absolute_error"] ** 2).sum() / (table["norm"] ** 2).sum()) == pytest.approx(
        one.relative_error, rel=1e-5
    )
