"""The smallest m that meets an error: against trying every m."""

import pytest
import torch

from filtersub.decomposition import DecompositionConfig, choose_atoms, decompose_model
from filtersub.errors import FiltersubError


def tensors(seed=0):
    """A layer of low rank, and one of full rank whose spectrum falls."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(64, 4, generator=generator) @ torch.randn(4, 9, generator=generator)
    full = torch.randn(96, 9, generator=generator) * torch.linspace(1, 0.1, 9)
    return {"low": low.reshape(8, 8, 3, 3), "full": full.reshape(12, 8, 3, 3)}


def by_trying(config, max_error, names, most=36):
    for m in range(1, most + 1):
        from dataclasses import replace

        found = decompose_model({name: tensors()[name] for name in names}, replace(config, atoms=m))
        if found.relative_error <= max_error:
            return m
    raise AssertionError


@pytest.mark.parametrize("max_error", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("solver", ["pca", "lasso"])
def test_the_smallest_m_of_each_layer(solver, max_error):
    config = DecompositionConfig(solver=solver, l1_penalty=1e-4)
    choice = choose_atoms(tensors(), config, max_error=max_error)
    for name, m in choice.atoms.items():
        assert m == by_trying(config, max_error, [name])
    found = decompose_model(tensors(), config, overrides=choice.overrides)
    assert all(layer.relative_error <= max_error for layer in found.layers.values())


def test_one_m_for_the_model():
    config = DecompositionConfig(solver="pca")
    choice = choose_atoms(tensors(), config, max_error=0.2, per="model")
    assert set(choice.atoms.values()) == {by_trying(config, 0.2, ["low", "full"])}
    assert set(choice.curve["name"]) == {"(model)"}


def test_the_curve_shows_why_no_smaller_m_will_do():
    curve = choose_atoms(tensors(), DecompositionConfig(l1_penalty=1e-3), max_error=0.1).curve
    tried = curve.dropna()
    assert bool((tried["relative_error"] >= tried["best_possible"] - 1e-6).all())
    for _, rows in curve.groupby("name"):
        assert rows["m"].tolist() == list(range(1, len(rows) + 1))
        before = rows[rows["m"] == rows.loc[rows["chosen"], "m"].item() - 1]
        assert float(before[["relative_error", "best_possible"]].max(axis=1).item()) > 0.1
    assert curve["chosen"].sum() == 2
    assert bool(curve.loc[curve["chosen"], "meets"].all())
    assert bool((curve["meets"] == (curve["relative_error"] <= 0.1)).all())


def test_linear_codes_need_one_try():
    """Their error is the bound itself."""
    curve = choose_atoms(tensors(), DecompositionConfig(solver="pca"), max_error=0.3).curve
    curve = curve.dropna()
    assert len(curve) == 2
    torch.testing.assert_close(
        torch.tensor(curve["relative_error"].to_numpy()),
        torch.tensor(curve["best_possible"].to_numpy()),
        atol=1e-6,
        rtol=0,
    )


def test_other_overrides_stay():
    choice = choose_atoms(tensors(), max_error=0.3, overrides={"low": {"solver": "pca"}})
    found = decompose_model(tensors(), overrides=choice.overrides)
    assert found.layers["low"].solver == "pca"
    assert found.layers["low"].relative_error <= 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_error": 0.0}, "between 0 and 1, got 0.0"),
        ({"max_error": float("nan")}, "max_error must be a finite number, got nan"),
        ({"max_error": 0.1, "per": "kernel"}, "per layer or per model, got 'kernel'"),
        ({"max_error": 0.1, "most": 0}, "most must be at least 1, got 0"),
        ({"max_error": 0.1, "config": DecompositionConfig(init="a.safetensors")}, "as many as they are"),
        ({"max_error": 0.01, "most": 2}, r"no m up to 2 .* m = 2 leaves .* allow more atoms"),
        ({"max_error": 0.01, "config": DecompositionConfig(l1_penalty=0.3)}, "l1_penalty 0.3 stands in the way"),
    ],
)
def test_what_cannot_be_met_is_said(settings, message):
    with pytest.raises(FiltersubError, match=message):
        choose_atoms(tensors(), **settings)
