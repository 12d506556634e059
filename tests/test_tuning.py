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
from torch.nn.functional import conv2d

from filtersub.errors import FiltersubError
from filtersub.models import load_model
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

SETTINGS = {
    "setting 1": {"atoms": 4},
    "setting 3": {"atoms": 4, "block": 2},
    "blocks on spatial kernels": {"atoms": 2, "block": (2, 4), "block_spatial": True},
    "linear codes": {"atoms": 4, "block": 2, "solver": "pca"},
    "pursuit": {"atoms": 4, "solver": "omp"},
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
    assert all("filtersub_atoms" in name or "classifier.modules_to_save" in name for name in trained)
    layers = {layer.name for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)}
    assert layers == (set(SPATIAL + POINTWISE) if "block" in SETTINGS[setting] else set(SPATIAL))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(images).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
        if name in trained:
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
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < head + 20_000


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


def test_two_steps_equal_one_convolution():
    """Equation 3: every channel with every atom, then a 1x1 convolution, equals one convolution with F + alpha x dD."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3, stride=2, padding=2, dilation=2, bias=False).double()
    model = get_peft_model(nn.Sequential(layer), FilterSubspaceConfig(target_modules=["0"], atoms=5))
    wrapped = next(m for m in model.modules() if isinstance(m, FilterSubspaceLayer))
    atoms, alpha = wrapped.filtersub_atoms["default"], wrapped.filtersub_coefficients["default"]
    with torch.no_grad():
        atoms.normal_()
    images = torch.randn(2, 6, 11, 11, dtype=torch.float64)
    one_step = model(images)
    grad_one = torch.autograd.grad(one_step.square().sum(), atoms)[0]

    per_channel = atoms.reshape(5, 1, 3, 3).repeat(6, 1, 1, 1)
    maps = conv2d(images, per_channel, stride=2, padding=2, dilation=2, groups=6)  # (n, 6 * 5, h, w)
    mixed = conv2d(maps, alpha.reshape(10, 6 * 5, 1, 1))
    two_step = layer(images) + mixed
    torch.testing.assert_close(one_step, two_step, atol=1e-10, rtol=0)
    grad_two = torch.autograd.grad(two_step.square().sum(), atoms)[0]
    torch.testing.assert_close(grad_one, grad_two, atol=1e-8, rtol=1e-10)


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
