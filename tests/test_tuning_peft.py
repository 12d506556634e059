"""The method as a peft citizen: several adapters, other tuners beside it, wrappers of torch, other processes."""

import copy
import io
from contextlib import redirect_stdout

import peft
import pytest
import torch
from conftest import EveryKind
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

SETTING_4 = {"atoms": 3, "block": 2, "expansion": 2, "solver": "pca", "hold_coefficients": True}
PLAIN = {"atoms": 3, "block": 2, "solver": "pca"}
MODES = {
    "plain": PLAIN,
    "stored": {**PLAIN, "hold_coefficients": True},
    "expanded": SETTING_4,
    "per channel, two levels": {**SETTING_4, "expansion": (2, 3), "expansion_coefficients": "per-channel"},
    "coefficients too": {**PLAIN, "train_coefficients": True},
}


def config(mode="plain", **options):
    return FilterSubspaceConfig(**MODES[mode], **options)


def move(model, seed):
    """Stands for training: every trained parameter moves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


def layers_of(model):
    return [module for module in model.modules() if isinstance(module, FilterSubspaceLayer)]


def two_adapters(model, mode, **other):
    tuned = move(get_peft_model(model, config(mode)), 1)
    tuned.add_adapter("other", FilterSubspaceConfig(**{**MODES[mode], **other}))
    tuned.set_adapter("other")
    move(tuned, 2)
    tuned.set_adapter("default")
    return tuned.eval()


@pytest.mark.parametrize("mode", MODES)
def test_a_weighted_combination_is_the_weighted_sum(every_kind, mode):
    other = {"expansion": (4, *MODES[mode]["expansion"][1:])} if mode == "per channel, two levels" else {}
    if mode == "stored":
        other = {"target_modules": "spatial"}
    model = two_adapters(every_kind, mode, **other)
    model.add_weighted_adapter(["default", "other"], [0.5, -2.0], "both")
    for layer in layers_of(model):
        expected = 0.5 * layer.get_delta_weight("default")
        if "other" in layer.filtersub_atoms:
            expected = expected - 2.0 * layer.get_delta_weight("other")
        torch.testing.assert_close(layer.get_delta_weight("both"), expected, atol=1e-6, rtol=1e-4)
    assert model.active_adapters == ["default"]


def test_a_combination_saves_and_loads_like_any_adapter(every_kind, images, tmp_path):
    base = copy.deepcopy(every_kind)
    model = two_adapters(every_kind, "expanded")
    model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "both")
    model.set_adapter("both")
    model.save_pretrained(tmp_path, selected_adapters=["both"])
    loaded = PeftModel.from_pretrained(base, tmp_path / "both").eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_combinations_that_mean_nothing_are_refused(every_kind):
    model = two_adapters(every_kind, "plain", atoms=2)
    with pytest.raises(FiltersubError, match="cannot be combined: atoms is 3 and 2"):
        model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "both")
    with pytest.raises(FiltersubError, match="distinct names"):
        model.add_weighted_adapter(["default", "nobody"], [1.0, 1.0], "both")
    with pytest.raises(FiltersubError, match="must be 'linear'"):
        model.add_weighted_adapter(["default"], [1.0], "both", combination_type="ties")
    with pytest.raises(FiltersubError, match="1 distinct adapters need as many weights, got 2"):
        model.add_weighted_adapter(["default"], [1.0, 2.0], "both")
    assert set(model.peft_config) == {"default", "other"}


@pytest.mark.parametrize("mode", MODES)
def test_active_together_is_the_sum_and_merges_like_it(every_kind, images, mode):
    model = two_adapters(every_kind, mode)
    layer = layers_of(model)[1]
    base = layer.get_base_layer().weight.clone()
    with torch.no_grad():
        model.base_model.set_adapter(["default", "other"])
        total = base + layer.get_delta_weight("default") + layer.get_delta_weight("other")
        torch.testing.assert_close(layer.summed_weight(), total, atol=1e-6, rtol=1e-5)
        together = model(images)
        model.base_model.merge_adapter(["default"], safe_merge=True)
        model.base_model.merge_adapter(["other"])
        assert torch.equal(model(images), together)
        model.base_model.unmerge_adapter()
        assert torch.equal(layer.get_base_layer().weight, base)
        model.base_model.merge_adapter()
        assert torch.equal(model(images), together)


@pytest.mark.parametrize("mode", MODES)
def test_delete_disable_and_switch(every_kind, images, mode):
    with torch.no_grad():
        plain = every_kind(images)
        model = two_adapters(every_kind, mode)
        first = model(images)
        with model.disable_adapter():
            assert torch.equal(model(images), plain)
        model.set_adapter("other")
        second = model(images)
        assert not torch.equal(first, second)
        model.delete_adapter("other")
        assert not any("other" in name for name in model.state_dict())
        model.set_adapter("default")
        assert torch.equal(model(images), first)


def test_adapters_of_different_blocks_live_on_one_base(every_kind, images):
    model = two_adapters(every_kind, "stored", block=(4, 2), atoms=2)
    with torch.no_grad():
        model.base_model.set_adapter(["default", "other"])
        for layer in layers_of(model):
            total = layer.get_base_layer().weight + sum(layer.get_delta_weight(a) for a in ("default", "other"))
            torch.testing.assert_close(layer.summed_weight(), total, atol=1e-6, rtol=1e-5)


def test_adapters_of_one_recipe_go_on_sharing_after_a_cast(every_kind):
    model = two_adapters(every_kind, "stored").to(torch.float64)
    for layer in layers_of(model):
        assert layer.filtersub_coefficients["default"] is layer.filtersub_coefficients["other"]
        assert layer.filtersub_coefficients["default"].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("low_memory", [False, True])
def test_half_precision_saves_and_loads_exactly(every_kind, images, tmp_path, dtype, low_memory):
    every_kind, images = every_kind.to(dtype), images.to(dtype)
    base = copy.deepcopy(every_kind)
    model = move(get_peft_model(every_kind, config("stored")), 1).eval()
    assert layers_of(model)[0].filtersub_atoms["default"].dtype == torch.float32  # trained in full precision
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_memory).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("mode", MODES)
def test_low_memory_load_is_identity(every_kind, images, tmp_path, mode):
    base = copy.deepcopy(every_kind)
    model = move(get_peft_model(every_kind, config(mode)), 1).eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=True).eval()
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_a_new_process_loads_the_adapter(every_kind, images, run_code, tmp_path):
    """The saved atoms of nine layers take a few kB; another process makes the coefficients again."""
    torch.save({"base": every_kind.state_dict(), "images": images}, tmp_path / "given.pt")
    model = move(get_peft_model(every_kind, FilterSubspaceConfig(atoms=3, solver="omp")), 1).eval()
    model.save_pretrained(tmp_path / "adapter")
    assert sum(file.stat().st_size for file in (tmp_path / "adapter").iterdir()) < 16_000
    script = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from conftest import EveryKind
from peft import PeftModel
import filtersub.tuning
given = torch.load(sys.argv[1] + "/given.pt")
base = EveryKind().eval()
base.load_state_dict(given["base"])
model = PeftModel.from_pretrained(base, sys.argv[1] + "/adapter").eval()
with torch.no_grad():
    torch.save(model(given["images"]), sys.argv[1] + "/out.pt")
"""
    done = run_code(script, tmp_path, "tests")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "out.pt"), model(images), atol=1e-6, rtol=1e-5)


def test_an_adapter_with_more_layers_than_the_model_is_refused(every_kind, tmp_path):
    """The layers that are there have the right weights; the adapter without the others is another one."""
    base = copy.deepcopy(every_kind)
    move(get_peft_model(every_kind, config()), 1).save_pretrained(tmp_path)
    base.mix = nn.Identity()
    with pytest.raises(FiltersubError, match=r"atoms for 9 layers, of which this model lacks 1, 'mix' for one"):
        PeftModel.from_pretrained(base, tmp_path)


def test_names_of_an_adapter_for_each_image_are_refused(every_kind, images):
    model = get_peft_model(every_kind, config())
    with pytest.raises(FiltersubError, match="adapter_names is for methods that add outputs"):
        model(images, adapter_names=["default"] * len(images))


@pytest.mark.parametrize(
    "norm",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.weight_norm],
    ids=["weight norm", "spectral norm", "weight norm by hooks"],
)
def test_a_weight_that_is_computed_cannot_be_tuned(norm):
    """The layer computes it anew whenever it runs, so that an update would go unseen."""
    model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3))
    with pytest.raises(FiltersubError, match="no layer that can be tuned; 0: its weight is computed from other param"):
        get_peft_model(model, FilterSubspaceConfig(target_modules=["0"], atoms=2))
    tuned = get_peft_model(model, FilterSubspaceConfig(target_modules=".*", atoms=2))
    assert [layer.name for layer in layers_of(tuned)] == ["1"]


def test_a_layer_without_a_shape_yet_is_passed_over():
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(FiltersubError, match=r"\['0'\] match no layer that can be tuned"):
        get_peft_model(lazy, FilterSubspaceConfig(target_modules=["0"]))


def test_lora_on_other_layers_trains_saves_and_merges(every_kind, images, tmp_path):
    """Two steps: LoRA is injected first, then the model is wrapped; both train, one file holds both."""
    lora = LoraConfig(r=2, target_modules=["mix", "pointwise"])
    base = copy.deepcopy(every_kind)
    model = get_peft_model(inject_adapter_in_model(lora, every_kind), config("stored", modules_to_save=["classifier"]))
    assert {layer.name for layer in layers_of(model)}.isdisjoint({"mix", "pointwise"})
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("lora_A" in name for name in trained)
    assert any("filtersub_atoms" in name for name in trained)
    move(model, 1).eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(inject_adapter_in_model(lora, base), tmp_path).eval()
    with torch.no_grad():
        tuned = model(images)
        assert torch.equal(loaded(images), tuned)
        torch.testing.assert_close(model.merge_and_unload()(images), tuned, atol=1e-5, rtol=1e-4)


def test_the_mixed_model_of_peft_refuses_by_name():
    """PeftMixedModel knows a closed list of methods; docs/tuning.md shows the two-step way instead."""
    with pytest.raises(ValueError, match=r"FILTER_SUBSPACE.*not compatible with the `PeftMixedModel`"):
        get_peft_model(EveryKind(), config(), mixed=True)


def test_presets_name_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer3 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1))
            self.layer4 = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))

    def names(target, **options):
        model = get_peft_model(Net(), FilterSubspaceConfig(target_modules=target, solver="pca", block=2, **options))
        return [layer.name for layer in layers_of(model)]

    assert names("spatial") == ["layer3.0", "layer4.0"]
    assert names("pointwise") == ["layer3.1", "layer4.1"]
    assert names("depthwise") == ["layer4.0"]
    assert names("stage4") == ["layer4.0", "layer4.1"]
    assert names("stage4", exclude_modules=["layer4.0"]) == ["layer4.1"]
    assert names(r"layer\d\.0") == ["layer3.0", "layer4.0"]
    with pytest.raises(FiltersubError, match=r"'stage_4' match no layer.*did you mean 'stage4'"):
        names("stage_4")


def test_trainable_parameters_are_printed(every_kind):
    model = get_peft_model(every_kind, config())
    atoms = sum(layer.filtersub_atoms["default"].numel() for layer in layers_of(model))
    said = io.StringIO()
    with redirect_stdout(said):
        model.print_trainable_parameters()
    assert f"trainable params: {atoms:,d} ||" in said.getvalue()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_gradient_checkpointing_gives_the_same_gradients(mode, reentrant):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    model = move(get_peft_model(body, FilterSubspaceConfig(target_modules=".*", **MODES[mode])), 1)
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    plain = torch.autograd.grad(model(x).square().sum(), trained)
    model.zero_grad()
    checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    for parameter, gradient in zip(trained, plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_without_a_break(mode, backend):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    model = move(get_peft_model(body, FilterSubspaceConfig(target_modules=".*", **MODES[mode])), 1)
    x = torch.randn(2, 8, 9, 9)
    trained = [p for p in model.parameters() if p.requires_grad]
    expected = model(x)
    gradients = torch.autograd.grad(expected.square().sum(), trained)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), expected, atol=1e-5, rtol=1e-4)
    for mine, theirs in zip(torch.autograd.grad(compiled(x).square().sum(), trained), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_compiles_with_inductor():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model = move(get_peft_model(body, FilterSubspaceConfig(target_modules=".*", **MODES["stored"])), 1)
    x = torch.randn(2, 8, 9, 9)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    compiled(x).sum().backward()


def test_amp_runs_and_stays_near(every_kind, images):
    model = move(get_peft_model(every_kind, config("stored")), 1).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(images)
    out.float().sum().backward()
    assert layers_of(model)[0].filtersub_atoms["default"].grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), model(images), atol=0.1, rtol=0.1)


def test_the_method_is_one_of_pefts(every_kind):
    assert peft.PeftType.FILTER_SUBSPACE in peft.PEFT_TYPE_TO_CONFIG_MAPPING
    described = get_peft_model(every_kind, config()).get_layer_status()
    assert [status.name.removeprefix("model.") for status in described] == [
        layer.name for layer in layers_of(every_kind)
    ]
    assert all(status.requires_grad == {"default": True} for status in described)
