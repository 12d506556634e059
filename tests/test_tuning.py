"""The method as a peft citizen, for every layer kind."""

import copy
import json

import peft
import pytest
import torch
from conftest import POINTWISE, SPATIAL, EveryKind
from peft import PeftModel, get_peft_model
from peft.utils import PeftType
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.models import load_model
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

HELD = {"solver": "pca", "hold_coefficients": True}  # quick to code, stored like any other
SETTINGS = {
    "setting 1": {"atoms": 4},
    "setting 2": {"atoms": 4, "expansion": 3, **HELD},
    "setting 2 per channel": {"atoms": 4, "expansion": 3, "expansion_coefficients": "per-channel", **HELD},
    "three levels": {"atoms": 4, "expansion": (3, 2), **HELD},
    "setting 3": {"atoms": 4, "block": 2},
    "setting 4": {"atoms": 4, "block": 2, "expansion": 3, **HELD},
    "coefficients too": {"atoms": 4, "block": 2, "train_coefficients": True, "solver": "pca"},
    "blocks on spatial kernels": {"atoms": 2, "block": (2, 4), "block_spatial": True, **HELD},
    "linear codes": {"atoms": 4, "block": 2, "solver": "pca"},
    "linear codes, per channel": {
        "atoms": 4,
        "block": 2,
        "solver": "pca",
        "expansion": 2,
        "expansion_coefficients": "per-channel",
    },
    "pursuit": {"atoms": 4, "solver": "omp"},
    "random coefficients": {"atoms": 4, "block": 2, "solver": "random", "seed": 5},
}


def injected(model, setting="setting 3", seed=None, **options):
    config = FilterSubspaceConfig(modules_to_save=["classifier"], **SETTINGS[setting], **options)
    tuned = get_peft_model(model, config)
    if seed is not None:
        train_a_little(tuned, seed)
    return tuned.eval()


def train_a_little(model, seed=0):
    """Stands for training: every trained parameter moves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(parameter))


def test_peft_knows_the_method():
    """Fails loudly when peft changes how methods are registered."""
    assert PeftType.FILTER_SUBSPACE.value == "FILTER_SUBSPACE"
    assert peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.FILTER_SUBSPACE] is FilterSubspaceConfig


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("setting", SETTINGS)
def test_output_is_bit_identical_at_the_start(every_kind, images, setting, dtype):
    model, images = every_kind.to(dtype), images.to(dtype)
    with torch.no_grad():
        before = model(images)
        assert torch.equal(injected(model, setting)(images), before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_only_atoms_and_head_train(every_kind, images, setting):
    model = injected(every_kind, setting)
    base = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    ours = ("filtersub_atoms", "filtersub_expansion", "filtersub_coefficients_update", "classifier.modules_to_save")
    assert all(any(part in name for part in ours) for name in trained)
    assert ("expansion" in SETTINGS[setting]) == any("filtersub_expansion" in name for name in trained)
    layers = {layer.name for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)}
    assert layers == (set(SPATIAL + POINTWISE) if "block" in SETTINGS[setting] else set(SPATIAL))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(images).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
        if name in trained and "filtersub_expansion" not in name:  # whose gradient is zero while the atoms are
            assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in base:
            assert torch.equal(parameter, base[name]), name


@pytest.mark.parametrize("setting", SETTINGS)
def test_merging_keeps_the_output_and_unmerging_the_weights(every_kind, images, setting):
    model = injected(every_kind, setting, seed=3)
    originals = {n: layer.get_base_layer().weight.clone() for n, layer in layers_of(model).items()}
    with torch.no_grad():
        tuned = model(images)
        model.merge_adapter(safe_merge=True)
        assert torch.equal(model(images), tuned)
        assert not torch.equal(layers_of(model)["stem"].get_base_layer().weight, originals["stem"])
        model.unmerge_adapter()
        for name, layer in layers_of(model).items():
            assert torch.equal(layer.get_base_layer().weight, originals[name])
        assert torch.equal(model(images), tuned)
        assert torch.equal(model.merge_and_unload()(images), tuned)


def layers_of(model):
    return {layer.name: layer for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)}


def test_removing_gives_the_base_back(every_kind, images):
    base = copy.deepcopy(every_kind)
    model = injected(every_kind, seed=3)
    restored = model.unload()
    for (name, ours), (_, theirs) in zip(
        restored.stem.state_dict().items(), base.stem.state_dict().items(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert not any(isinstance(module, FilterSubspaceLayer) for module in restored.modules())


@pytest.mark.parametrize("save_coefficients", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_save_and_load_is_identity(every_kind, images, tmp_path, setting, save_coefficients):
    base = copy.deepcopy(every_kind)
    model = injected(every_kind, setting, seed=3, save_coefficients=save_coefficients)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "FILTER_SUBSPACE"


def test_a_saved_adapter_holds_atoms_not_coefficients(tmp_path):
    model = load_model("resnet18", pretrained=False)
    config = FilterSubspaceConfig(solver="pca", modules_to_save=["fc"])
    get_peft_model(model, config).save_pretrained(tmp_path)
    head = 4 * (512 * 1000 + 1000)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < head + 24_000


def test_an_adapter_of_other_base_weights_is_refused(every_kind, tmp_path):
    other = copy.deepcopy(every_kind)
    with torch.no_grad():
        other.grouped.weight[0].mul_(1.5)
    injected(every_kind, seed=3).save_pretrained(tmp_path)
    with pytest.raises(FiltersubError, match=r"'grouped'.*fingerprints differ"):
        PeftModel.from_pretrained(other, tmp_path)


def test_running_statistics_travel_with_the_adapter_where_asked(every_kind, images, tmp_path):
    base = copy.deepcopy(every_kind)
    model = injected(every_kind, seed=3, save_batch_norm=True)
    model.train()(images)  # moves the running statistics
    model.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_two_adapters_switch_and_disable(every_kind, images):
    with torch.no_grad():
        plain = every_kind(images)
        model = injected(every_kind, seed=3)
        first = model(images)
        model.add_adapter("other", FilterSubspaceConfig(modules_to_save=["classifier"], **SETTINGS["setting 3"]))
        shared = layers_of(model)["stem"].filtersub_coefficients
        assert shared["default"] is shared["other"]
        model.set_adapter("other")
        assert torch.equal(model(images), plain)
        train_a_little(model, seed=9)
        second = model(images)
        assert not torch.equal(second, first)
        model.set_adapter("default")
        assert torch.equal(model(images), first)
        with model.disable_adapter():
            assert torch.equal(model(images), plain)
        model.delete_adapter("other")
        assert torch.equal(model(images), first)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:mobilenet_v3_small", "convnext_atto"])
def test_architectures_of_other_libraries(name):
    torch.manual_seed(0)
    model = load_model(name, pretrained=False, num_classes=5)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        tuned = get_peft_model(model, FilterSubspaceConfig(block=4, solver="pca")).eval()
        assert torch.equal(tuned(images), before)
    tuned(images).sum().backward()


def test_the_meta_device_makes_shapes_alone():
    model = get_peft_model(load_model("resnet50", device="meta"), FilterSubspaceConfig(block=4))
    assert all(p.device.type == "meta" for p in model.parameters())


def test_targets_are_exact(every_kind):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 3), nn.ModuleDict({"stem": nn.Conv2d(4, 4, 3)})

    model = get_peft_model(Nested(), FilterSubspaceConfig(target_modules="stem", atoms=2))
    assert [layer.name for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)] == ["stem"]
    with pytest.raises(FiltersubError, match=r"\['nowhere'\] match no layer.*stem"):
        get_peft_model(every_kind, FilterSubspaceConfig(target_modules=["nowhere"]))


def test_a_merge_that_would_break_the_weights_is_refused(every_kind):
    model = injected(every_kind, seed=3)
    stem = layers_of(model)["stem"]
    before = stem.get_base_layer().weight.clone()
    with torch.no_grad():
        stem.filtersub_atoms["default"][0, 0] = float("inf")
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(stem.get_base_layer().weight, before)


def test_bad_configs_are_named():
    with pytest.raises(FiltersubError, match="unknown solver"):
        FilterSubspaceConfig(solver="magic")
    with pytest.raises(FiltersubError, match="block must be"):
        FilterSubspaceConfig(block=0)


def test_every_kind_is_really_covered():
    kinds = {type(module).__name__ for module in EveryKind().modules()}
    assert {"Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Linear"} <= kinds
