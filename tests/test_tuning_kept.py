"""Decompositions of layers are kept while a run is prepared: an interrupted one goes on with the rest."""

import copy

import pytest
import torch
from torch import nn

from filtersub.decomposition import DecompositionConfig
from filtersub.methods import inject
from filtersub.tuning import FilterSubspaceLayer, kept

RECIPES = {
    "packed": DecompositionConfig(atoms=3, block=4, sparsity=0.1, max_rounds=5),
    "dense": DecompositionConfig(atoms=3, block=2, solver="omp", nonzeros=3, max_rounds=5),
    "expanded": DecompositionConfig(atoms=3, sparsity=0.05, expansion=2, max_rounds=5),
    "linear": DecompositionConfig(atoms=3, block=4, solver="pca"),
}


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 1), nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def coefficients(injected):
    layers = [module for module in injected.model.modules() if isinstance(module, FilterSubspaceLayer)]
    return {layer.name: layer.coefficients("default") for layer in layers}


@pytest.fixture
def counted(monkeypatch):
    """Names of the layers that are decomposed."""
    seen, plain = [], kept.frozen_codes
    monkeypatch.setattr(
        kept, "frozen_codes", lambda layout, *a, **k: (seen.append(layout.name), plain(layout, *a, **k))[1]
    )
    return seen


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_start_goes_on_with_the_rest(recipe, counted, tmp_path):
    recipe, net = RECIPES[recipe], network()
    wanted = inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe)
    counted.clear()
    told = []

    def interrupt(done, total, name):
        told.append((done, total, name))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe, keep_in=tmp_path, on_layer=interrupt)
    names = list(coefficients(wanted))
    assert told == [(number, len(names), name) for number, name in enumerate(names[:3])]
    first = list(counted)
    counted.clear()
    again = inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe, keep_in=tmp_path)
    held = recipe.solver != "pca"
    assert first == names[:2]
    assert counted == (names[2:] if held else names), "linear codes take no time and are not kept"
    for name, codes in coefficients(again).items():
        assert torch.equal(codes, coefficients(wanted)[name])
    assert again.cost["decomposition_iterations"] == wanted.cost["decomposition_iterations"]


@pytest.mark.parametrize("change", ["recipe", "weights", "a damaged file"])
def test_other_recipes_weights_and_damaged_files_are_decomposed_anew(change, counted, tmp_path):
    recipe, net = RECIPES["packed"], network()
    inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe, keep_in=tmp_path)
    n_layers = len(counted)
    counted.clear()
    if change == "recipe":
        recipe = DecompositionConfig(atoms=3, block=4, sparsity=0.2, max_rounds=5)
    elif change == "weights":
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.01)
    else:
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:100])
    found = inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe, keep_in=tmp_path)
    assert len(counted) == n_layers
    wanted = coefficients(inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe))
    assert all(torch.equal(codes, wanted[name]) for name, codes in coefficients(found).items())
