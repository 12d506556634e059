"""Layers are decomposed once: by a run that was interrupted, by the runs of an ablation, by candidates of a rate."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filtersub.decomposition import DecompositionConfig, cache, decompose_weight
from filtersub.experiment import TuneSettings, decompose_run, tune
from filtersub.kernels import layout_of
from filtersub.methods import inject
from filtersub.processes import DECOMPOSITIONS
from filtersub.tuning import FilterSubspaceLayer

RECIPES = {
    "packed": DecompositionConfig(atoms=3, block=4, l1_penalty=0.1, max_rounds=5),
    "dense": DecompositionConfig(atoms=3, block=2, solver="omp", nonzeros=3, max_rounds=5),
    "expanded": DecompositionConfig(atoms=3, l1_penalty=0.05, expansion=2, max_rounds=5),
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
    """Names of the layers that are decomposed by way of a cache."""
    seen, plain = [], cache.decompose_weight
    monkeypatch.setattr(cache, "decompose_weight", lambda layout, *a: (seen.append(layout.name), plain(layout, *a))[1])
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
    assert first == (names[:2] if held else [])
    assert counted == (names[2:] if held else []), "linear codes take no time and are not kept"
    assert again.cost.get("decomposition_reused_layers", 0) == (2 if held else 0)
    assert ("decomposition_reused_seconds" in again.cost) == held
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
        recipe = DecompositionConfig(atoms=3, block=4, l1_penalty=0.2, max_rounds=5)
    elif change == "weights":
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.01)
    else:
        for path in tmp_path.glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:100])
    found = inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe, keep_in=tmp_path)
    assert len(counted) == n_layers
    wanted = coefficients(inject(copy.deepcopy(net), "filter-subspace", "6", recipe=recipe))
    assert all(torch.equal(codes, wanted[name]) for name, codes in coefficients(found).items())


CASES = {
    "lasso": {"atoms": 3, "l1_penalty": 0.1, "max_rounds": 5},
    "levels": {"atoms": 3, "l1_penalty": 0.05, "expansion": (2, 2), "max_rounds": 3},
    "per channel": {"atoms": 2, "expansion": 2, "expansion_coefficients": "per-channel", "max_rounds": 3},
    "blocks of alpha": {"atoms": 3, "block": 2, "block_coefficients": True, "max_rounds": 3},
    "pursuit": {"atoms": 3, "solver": "omp", "nonzeros": 2, "max_rounds": 3},
    "drawn": {"atoms": 3, "solver": "random"},
    "nothing left": {"atoms": 2, "l1_penalty": 1e6},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_what_is_read_is_what_was_made_bit_for_bit(case, dtype, tmp_path):
    recipe, layer = DecompositionConfig(**CASES[case]), network()[0].to(dtype)
    layout = layout_of("one", layer, **recipe.kernel_blocks)
    made = cache.DecompositionCache(tmp_path).decomposed(layout, layer, recipe)
    reader = cache.DecompositionCache(tmp_path)
    other = layout_of("another", layer, **recipe.kernel_blocks)
    found = reader.decomposed(other, layer, recipe)
    assert (reader.reused, reader.reused_seconds) == (1, made.seconds)
    assert found.layout.name == "another"
    for one, two in ((made, found), (made.blocks, found.blocks)):
        if one is None:
            assert two is None
            continue
        assert torch.equal(one.atoms, two.atoms)
        assert torch.equal(one.coefficients, two.coefficients)
        facts = ("objective", "squared_error", "iterations", "seconds", "history", "stopped", "note", "converged")
        assert [getattr(one, name) for name in facts] == [getattr(two, name) for name in facts]
        for level, again in zip(one.levels, two.levels, strict=True):
            assert torch.equal(level.atoms, again.atoms)
            assert torch.equal(level.coefficients, again.coefficients)


@pytest.mark.parametrize("change", ["seed", "penalty", "weight", "shape", "version", "none but the name"])
def test_an_entry_is_known_by_weights_recipe_and_version(change, counted, tmp_path, monkeypatch):
    layer, recipe = network()[0], DecompositionConfig(**CASES["lasso"])
    kept = cache.DecompositionCache(tmp_path)
    kept.decomposed(layout_of("one", layer), layer, recipe)
    if change == "seed":
        recipe = DecompositionConfig(**CASES["lasso"], seed=1)
    elif change == "penalty":
        recipe = DecompositionConfig(**{**CASES["lasso"], "l1_penalty": 0.2})
    elif change == "weight":
        with torch.no_grad():
            layer.weight[0, 0, 0, 0] += 1e-6
    elif change == "shape":  # the same numbers as other kernels
        layer = nn.Conv2d(2, 16, 3)
        with torch.no_grad():
            layer.weight.copy_(network()[0].weight.reshape(16, 2, 3, 3))
    elif change == "version":
        monkeypatch.setattr(cache, "package_version", lambda: "another")
    kept.decomposed(layout_of("two", layer), layer, recipe)
    assert len(counted) == (1 if change == "none but the name" else 2)


def test_of_two_that_need_a_layer_one_decomposes_it(tmp_path, monkeypatch):
    layer, recipe = network()[0], DecompositionConfig(**CASES["lasso"])
    layout, seen, both = layout_of("one", layer), [], Barrier(2)

    def slow(*arguments):
        seen.append(arguments)
        time.sleep(0.2)  # the other one comes meanwhile
        return decompose_weight(*arguments)

    monkeypatch.setattr(cache, "decompose_weight", slow)

    def ask(_):
        both.wait()
        return cache.DecompositionCache(tmp_path).decomposed(layout, layer, recipe)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(ask, range(2))
    assert len(seen) == 1
    assert torch.equal(one.coefficients, two.coefficients)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, counted):
    (tmp_path / "file").write_text("no folder")
    layer, recipe = network()[0], DecompositionConfig(**CASES["lasso"])
    found = cache.DecompositionCache(tmp_path / "file").decomposed(layout_of("one", layer), layer, recipe)
    assert torch.equal(found.atoms, decompose_weight(layout_of("one", layer), layer, recipe).atoms)
    assert counted == ["one"]


def test_files_of_atoms_are_read_each_time(tmp_path, counted):
    layer = network()[0]
    torch.manual_seed(1)
    save_file({"atoms": torch.nn.functional.normalize(torch.randn(3, 9), dim=1)}, tmp_path / "start.safetensors")
    recipe = DecompositionConfig(atoms=3, init=str(tmp_path / "start.safetensors"), max_rounds=2)
    kept = cache.DecompositionCache(tmp_path / "kept")
    for _ in range(2):
        kept.decomposed(layout_of("one", layer), layer, recipe)
    assert counted == ["one", "one"]
    assert kept.reused == 0


SETTINGS = TuneSettings(
    validation=True,
    model="efficientnet_lite0",
    layers=r"blocks\.0\.0\..*",
    atoms=3,
    epochs=1,
    n_train=20,
    image_size=32,
)


def test_runs_of_an_ablation_share_what_the_first_decomposed(tmp_path, monkeypatch, counted):
    alone = tune(SETTINGS, tmp_path / "alone", quiet=True)
    assert "decomposition_reused_seconds" not in alone.cost
    monkeypatch.setenv(DECOMPOSITIONS, str(tmp_path / "shared"))
    recipe = SETTINGS.recipe
    decompose_run(tmp_path / "first", atoms_grid=[2, 3], config=recipe, layers=SETTINGS.layers)
    counted.clear()
    record = tune(SETTINGS, tmp_path / "second", quiet=True)
    assert counted == []
    cost = record.cost
    assert cost["decomposition_reused_layers"] >= 1
    assert 0 < cost["decomposition_reused_seconds"] < cost["decomposition_seconds"]
    assert cost["decomposition_iterations"] == alone.cost["decomposition_iterations"]
    assert record.metrics == alone.metrics


def test_candidates_of_a_rate_decompose_once(tmp_path, counted):
    chosen = TuneSettings(**{**SETTINGS.parameters, "learning_rate": "choose", "rates": [0.01, 0.02]})
    record = tune(chosen, tmp_path / "run", quiet=True)
    assert len(counted) == len(set(counted)) >= 1
    assert record.cost["decomposition_reused_layers"] == len(counted)
    assert not list((tmp_path / "run").rglob("*.part"))
