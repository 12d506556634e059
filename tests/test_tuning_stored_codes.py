"""Coefficients that lie in an adapter's file are read, not made: on the weights they were made of and on others."""

import copy

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from filtersub import FilterSubspaceConfig
from filtersub.errors import FiltersubError
from filtersub.tuning import codes

IMAGES = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FORMS = {
    "dense": {"solver": "lasso"},
    "packed": {"solver": "omp", "nonzeros": 1, "block": 2},
    "linear": {"solver": "pca"},
    "drawn": {"solver": "random"},
    "blocked": {"solver": "lasso", "block": 2, "block_coefficients": True},
    "expanded": {"solver": "lasso", "expansion": 3},
    "with d-alpha": {"solver": "ridge", "train_coefficients": True},
}
PREFIX = "base_model.model."


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1), nn.Conv2d(8, 4, 3)).double().eval()


@pytest.fixture(params=FORMS)
def saved(request, tmp_path):
    """(folder of an adapter of random numbers with its coefficients, its update of each layer's weight)."""
    config = FilterSubspaceConfig(atoms=4, save_coefficients=True, **FORMS[request.param])
    model = get_peft_model(network(0), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path)
    return tmp_path, updates(model)


def updates(model, adapter="default"):
    layers = ((name, module) for name, module in model.named_modules() if hasattr(module, "filtersub_atoms"))
    return {name: layer.get_delta_weight(adapter).detach() for name, layer in layers}


def agree(one, other):
    assert one.keys() == other.keys() != set()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-12, atol=1e-12)


@pytest.fixture
def made(monkeypatch):
    """The names of the layers that are decomposed from here on."""
    names, decompose = [], codes.cached_weight
    monkeypatch.setattr(
        codes, "cached_weight", lambda layout, *rest: names.append(layout.name) or decompose(layout, *rest)
    )
    atoms = codes.principal_atoms
    monkeypatch.setattr(codes, "principal_atoms", lambda *rest: names.append("pca") or atoms(*rest))
    return names


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("how", ["alone", "beside", "trainable", "low memory"])
def test_no_layer_is_decomposed_and_the_update_is_that_of_the_file(saved, made, seed, how):
    folder, wanted = saved
    if how == "beside":
        model = get_peft_model(network(seed), FilterSubspaceConfig(atoms=3, solver="pca"))
        made.clear()
        model.load_adapter(folder, "read")
        found = updates(model, "read")
    else:
        options = {"trainable": {"is_trainable": True}, "low memory": {"low_cpu_mem_usage": True}}.get(how, {})
        model = PeftModel.from_pretrained(network(seed), folder, **options)
        found = updates(model)
    assert made == []
    agree(wanted, found)
    assert not any(buffer.is_meta for buffer in model.buffers())
    assert model(IMAGES).isfinite().all()


def test_a_config_read_without_its_file_makes_coefficients_of_the_weights(saved, made, tmp_path):
    """Whichever use comes first: running, the update, merging, saving, moving."""
    folder, _ = saved
    fresh = PeftConfig.from_pretrained(folder)
    fresh.awaits_coefficients = False
    expected = get_peft_model(network(1), fresh)
    names = made.copy()
    assert names
    for use in (
        lambda model: model(IMAGES),
        updates,
        lambda model: model.merge_adapter(),
        lambda model: model.save_pretrained(tmp_path / "again"),
        lambda model: model.to(torch.float64),
        lambda model: [m.coefficients("default") for m in model.modules() if hasattr(m, "filtersub_atoms")],
    ):
        made.clear()
        model = get_peft_model(network(1), FilterSubspaceConfig.from_pretrained(folder))
        assert made == []
        use(model)
        assert sorted(made) == sorted(names)
        state = model.state_dict()
        for name, value in expected.state_dict().items():
            if "coefficients." in name or "packed" in name or "fingerprint" in name or "dictionary" in name:
                assert torch.equal(state[name], value), name


def test_a_file_that_lacks_its_coefficients_is_held_against_the_weights(saved, made):
    folder, wanted = saved
    path = folder / "adapter_model.safetensors"
    forms = ("filtersub_coefficients", "packed", "block_coefficients")
    kept = {n: v for n, v in load_file(path).items() if "update" in n or not any(form in n for form in forms)}
    save_file(kept, path, metadata={"format": "pt"})
    agree(wanted, updates(PeftModel.from_pretrained(network(0), folder)))
    assert made
    config = FilterSubspaceConfig.from_pretrained(folder)
    if config.solver == "random":  # its coefficients follow the seed, not the weights
        return
    with pytest.raises(FiltersubError, match="not those the adapter was trained with"):
        PeftModel.from_pretrained(network(1), folder)


def test_a_deleted_adapter_is_awaited_no_more(saved, made):
    folder, _ = saved
    model = get_peft_model(network(0), FilterSubspaceConfig(atoms=3, solver="pca"))
    made.clear()
    model.add_adapter("read", FilterSubspaceConfig.from_pretrained(folder))
    model.delete_adapter("read")
    copy.deepcopy(model)(IMAGES)
    assert made == []
