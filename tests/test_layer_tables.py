"""The tables of a tuning run by layer: errors, changes and atoms, each against the weights themselves."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.experiment.layer_tables import layer_tables
from filtersub.methods import inject
from filtersub.tuning import FilterSubspaceLayer

CASES = {
    "sparse codes": {},
    "linear codes": {"solver": "pca"},
    "ridge codes": {"solver": "ridge", "l1_penalty": 0.1},
    "blocks": {"solver": "pca", "block": 2, "block_spatial": True},
    "atoms over atoms": {"expansion": 3},
    "atoms by input channel": {"expansion": 3, "expansion_coefficients": "per-channel"},
}


def tuned(tmp_path, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 8, 1), nn.Flatten(), nn.Linear(8, 2)
    )
    model = model.double()
    recipe = DecompositionConfig(**{"atoms": 4, "max_rounds": 30, **settings})
    found = inject(model, "filter-subspace", "4", recipe=recipe, keep_in=tmp_path / "kept")
    for name, parameter in found.model.named_parameters():
        if "filtersub" in name:
            parameter.data = 0.1 * torch.randn_like(parameter)
    return found, recipe


@pytest.mark.parametrize("case", CASES)
def test_errors_and_changes_are_those_of_the_weights(tmp_path, case):
    found, _ = tuned(tmp_path, **CASES[case])
    table = layer_tables(found.model, found.fits)["layers"].set_index("layer")
    layers = {layer.name: layer for layer in found.model.modules() if isinstance(layer, FilterSubspaceLayer)}
    assert list(table.index) == list(layers)
    for name, layer in layers.items():
        weight, summed = layer.get_base_layer().weight.detach(), layer.summed_weight().detach()
        fit, layout = found.fits[name], layer.layouts["default"]
        rebuilt = layout.to_weight(layer.coefficients("default").double() @ fit.atoms.double())
        row = table.loc[name]
        # principal atoms come from second moments in float64, whose rounding leaves the root of 1e-16 of an exact fit
        error = float((weight - rebuilt).norm() / weight.norm())
        assert row["relative_error"] == pytest.approx(error, rel=1e-6, abs=1e-8)
        assert row["weight_change"] == pytest.approx(float((summed - weight).norm() / weight.norm()), rel=1e-6)
        change = layer.atoms_update("default").detach().numpy()
        by_atom = np.linalg.norm(change, axis=-1) if change.ndim == 2 else np.sqrt((change**2).sum(-1).mean(0))
        assert [row["atoms"], row["mean_change"], row["largest_change"]] == pytest.approx(
            [len(by_atom), by_atom.mean(), by_atom.max()]
        )


def test_the_fit_before_tuning_is_that_of_the_decomposition(tmp_path):
    found, recipe = tuned(tmp_path)
    base = nn.Sequential(
        *[layer.get_base_layer() for layer in found.model.modules() if isinstance(layer, FilterSubspaceLayer)]
    )
    alone = decompose_model(base, recipe)
    for fit, own in zip(found.fits.values(), alone.layers.values(), strict=True):
        torch.testing.assert_close(fit.atoms, own.atoms)
        assert (fit.relative_error, fit.density) == pytest.approx((own.relative_error, own.density))


@pytest.mark.parametrize("case", ["sparse codes", "linear codes", "blocks", "atoms over atoms"])
def test_atoms_before_and_after_are_pictures_of_kernels(tmp_path, case):
    found, _ = tuned(tmp_path, **CASES[case])
    table = layer_tables(found.model, found.fits)["atoms"]
    for layer in found.model.modules():
        if not isinstance(layer, FilterSubspaceLayer):
            continue
        rows, layout = table[table["layer"] == layer.name], layer.layouts["default"]
        assert len(rows) == min(16, layer.filtersub_atoms["default"].shape[0])
        p, *size, q = layout.patch_shape
        change = layer.atoms_update("default").detach()
        for row in rows.to_dict("records"):
            assert (row["height"], row["width"]) == (p * size[0], q * size[1])
            before, after = (
                np.array(row[name].split(), float).reshape(row["height"], -1) for name in ("before", "after")
            )
            moved = change[row["atom"] - 1].reshape(p, *size, q).permute(0, 1, 3, 2)  # (p, height, q, width)
            np.testing.assert_allclose(after - before, moved.reshape(after.shape).numpy(), atol=2e-3)
            assert np.linalg.norm(before) == pytest.approx(1, abs=1e-3)


def test_atoms_by_input_channel_have_no_picture_and_other_methods_no_table(tmp_path):
    found, _ = tuned(tmp_path, **CASES["atoms by input channel"])
    assert list(layer_tables(found.model, found.fits)) == ["layers"]
    other = inject(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 2)), "linear", "2")
    assert layer_tables(other.model, other.fits) == {}


def test_of_many_atoms_those_that_moved_most_are_kept(tmp_path):
    found, _ = tuned(tmp_path, atoms=20)
    tables = layer_tables(found.model, found.fits)
    for layer in found.model.modules():
        if isinstance(layer, FilterSubspaceLayer) and layer.filtersub_atoms["default"].shape[0] > 16:
            norms = pd.Series(layer.filtersub_atoms["default"].detach().norm(dim=1).numpy())
            kept = tables["atoms"].loc[tables["atoms"]["layer"] == layer.name, "atom"] - 1
            assert sorted(kept) == sorted(norms.nlargest(16).index)
            break
    else:
        pytest.fail("no layer has more than 16 atoms")
