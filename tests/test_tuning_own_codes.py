"""Adapters of one recipe with other coefficients on one base: each keeps its own."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from filtersub import FilterSubspaceConfig
from filtersub.errors import FiltersubError

IMAGES = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FORMS = {
    "map": {"solver": "pca"},
    "map and dictionary": {"solver": "ridge", "train_coefficients": True},
    "dense": {"solver": "lasso", "save_coefficients": True},
    "packed": {"solver": "omp", "nonzeros": 1, "block": 2, "save_coefficients": True},
    "blocked": {"solver": "lasso", "block": 2, "block_coefficients": True, "save_coefficients": True},
}


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 8, 1), nn.Conv2d(8, 4, 3)).double()


def written(base, folder, seed, options):
    """An adapter of random numbers in a folder."""
    model = get_peft_model(copy.deepcopy(base), FilterSubspaceConfig(atoms=4, **options))
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def changed(folder, form):
    """The same folder as from elsewhere: coefficients of other weights, or the map of an eigenvector negated."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    for name, value in tensors.items():
        if "mapping" in name:
            value[:, 0] *= -1
        elif any(word in name for word in ("filtersub_coefficients", "packed_values", "block_coefficients")):
            if "update" not in name:
                value *= 1.5
        elif "dictionary" in name and form.startswith("map"):
            value[0] *= -1
    # the fingerprint is linear in the coefficients
    for name in [name for name in tensors if "fingerprint" in name]:
        tensors[name] = tensors[name] * 1.5
        if form.startswith("map"):
            tensors[name] = tensors[name] / 1.5
            tensors[name][0] *= -1
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(params=FORMS)
def two(request, tmp_path):
    """(base, form, folders by adapter, outputs by adapter alone on the base)."""
    base, options = network(0), FORMS[request.param]
    folders = {name: written(base, tmp_path / name, n, options) for n, name in enumerate("ABC")}
    changed(folders["B"], request.param)
    alone = {}
    for name, folder in folders.items():
        alone[name] = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()(IMAGES).detach()
    return base, request.param, folders, alone


def loaded(base, folders):
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(copy.deepcopy(base), folder, adapter_name=first)
    for name, folder in others:
        model.load_adapter(folder, name)
    return model.eval()


def outputs(model, name):
    model.set_adapter(name)
    return model(IMAGES)


def test_each_adapter_keeps_its_own_fingerprint(two, tmp_path):
    base, _, folders, _ = two
    model = loaded(base, folders)
    model.save_pretrained(tmp_path / "again")
    for name, folder in folders.items():
        saved, again = (load_file(f / "adapter_model.safetensors") for f in (folder, tmp_path / "again" / name))
        prints = [key for key in saved if "fingerprint" in key]
        assert prints
        for key in prints:
            torch.testing.assert_close(again[key], saved[key], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", ["ABC", "BAC"])
def test_each_adapter_runs_as_it_does_alone_whatever_is_loaded_beside_it(two, order):
    base, _, folders, alone = two
    model = loaded(base, {name: folders[name] for name in order})
    for after in (lambda: model, lambda: model.to(torch.float64), lambda: model.apply(lambda _: None)):
        after()
        for name in order:
            torch.testing.assert_close(outputs(model, name), alone[name], rtol=1e-10, atol=1e-10)
    half = model.float().double()
    for name in order:
        torch.testing.assert_close(outputs(half, name), alone[name], rtol=1e-4, atol=1e-5)


def test_active_together_they_add_their_own_updates(two):
    base, _, folders, _ = two
    model = loaded(base, folders)
    layers = [module for module in model.modules() if hasattr(module, "filtersub_atoms")]
    for layer in layers:
        own = sum(layer.get_delta_weight(name) for name in "ABC")
        model.base_model.set_adapter(list("ABC"))
        torch.testing.assert_close(layer.summed_weight() - layer.get_base_layer().weight, own, rtol=1e-9, atol=1e-10)


def test_a_new_adapter_takes_the_coefficients_of_the_base_weights(two, tmp_path):
    base, form, folders, _ = two
    model = loaded(base, {"B": folders["B"]})
    options = {**FORMS[form], "save_coefficients": False}
    model.add_adapter("new", FilterSubspaceConfig(atoms=4, **options))
    model.save_pretrained(tmp_path / "out", selected_adapters=["new"])
    PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "out" / "new")  # refused where fingerprints differ


def test_combined_are_only_adapters_of_the_same_coefficients(two):
    base, form, folders, alone = two
    if form == "blocked":
        pytest.skip("products of two factors are never combined")
    model = loaded(base, folders)
    with pytest.raises(FiltersubError, match="'A' and 'B' cannot be combined: they came with different coefficients"):
        model.add_weighted_adapter(["A", "B"], [1.0, 1.0], "sum")
    assert "sum" not in model.peft_config
    model.add_weighted_adapter(["A", "C"], [1.0, 0.0], "A again")
    model.add_weighted_adapter(["B"], [1.0], "B again")
    for name in "AB":
        torch.testing.assert_close(outputs(model, f"{name} again"), alone[name], rtol=1e-10, atol=1e-10)
