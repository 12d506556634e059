"""More patterns of peft's own tests for custom models, for every kind of layer of tests/test_tuning_peer_patterns.py:
several adapters at once, their state before and after a refusal, and what is reached through the wrapped layer."""

import contextlib
import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from test_tuning_peer_patterns import base, by_hand, close, config, kind, moved, tuned_of, two_of, x  # noqa: F401
from torch import nn

from filtersub.tuning import FilterSubspaceConfig


def states(tuned):
    """What a refused call must leave as it was: names, flags and numbers."""
    flags = {name: p.requires_grad for name, p in tuned.named_parameters()}
    tensors = {name: value.clone() for name, value in tuned.state_dict().items()}
    active, merged = list(tuned.active_adapters), list(tuned.base_model.model.layer.merged_adapters)
    return flags, tensors, sorted(tuned.peft_config), active, merged


def same(found, expected):
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())
    assert (found[0], found[1].keys(), *found[2:]) == (expected[0], expected[1].keys(), *expected[2:])


@torch.no_grad()
def test_two_active_adapters_add_their_updates(base, x):  # noqa: F811
    tuned = get_peft_model(copy.deepcopy(base), config(modules_to_save=None), autocast_adapter_dtype=False)
    moved(tuned, 2)
    tuned.add_adapter("other", config(modules_to_save=None), autocast_adapter_dtype=False)
    tuned.base_model.set_adapter("other")
    moved(tuned, 3)
    hand = {"default": _layer_alone(base, tuned, ["default"]), "other": _layer_alone(base, tuned, ["other"])}
    for names in (["default", "other"], ["other", "default"], ["other"]):
        tuned.base_model.set_adapter(names)
        expected = _layer_alone(base, tuned, names) if len(names) > 1 else hand[names[0]]
        close(tuned(x), expected(x))
        tuned.merge_adapter()
        close(tuned(x), expected(x))
        tuned.unmerge_adapter()
        close(tuned(x), expected(x))


@torch.no_grad()
def test_merging_one_after_the_other_is_merging_both(base, x):  # noqa: F811
    tuned = two_of(base)
    before = tuned.base_model.model.layer.get_base_layer().weight.clone()
    tuned.merge_adapter(["default"])
    tuned.merge_adapter(["other"])
    close(tuned(x), by_hand(base, tuned, ["default", "other"])(x))
    assert sorted(tuned.base_model.model.layer.merged_adapters) == ["default", "other"]
    tuned.unmerge_adapter()
    assert torch.equal(tuned.base_model.model.layer.get_base_layer().weight, before)


@torch.no_grad()
def test_a_name_that_is_taken_is_refused_and_nothing_changes(base):  # noqa: F811
    tuned = two_of(base)
    before = states(tuned)
    with pytest.raises(ValueError, match="other"):
        tuned.add_adapter("other", config(atoms=1))
    same(states(tuned), before)
    assert tuned.peft_config["other"].atoms == 2


@torch.no_grad()
def test_a_merged_adapter_is_not_deleted_from_under_its_weight(base, x):  # noqa: F811
    tuned = two_of(base)
    tuned.merge_adapter(["default"])
    merged = tuned(x)
    tuned.delete_adapter("other")  # not merged
    assert torch.equal(tuned(x), merged)
    before = states(tuned)
    with pytest.raises(ValueError, match="unmerge"):
        tuned.delete_adapter("default")
    same(states(tuned), before)
    tuned.unmerge_adapter()
    with tuned.disable_adapter():
        assert torch.equal(tuned(x), base(x))


@torch.no_grad()
def test_leaving_disable_adapter_restores_what_was(base, x):  # noqa: F811
    tuned = two_of(base)
    for name in ("other", "default"):
        tuned.set_adapter(name)
        before, wanted = states(tuned), tuned(x)
        with contextlib.suppress(KeyboardInterrupt), tuned.disable_adapter():
            assert torch.equal(tuned(x), base(x))
            raise KeyboardInterrupt
        same(states(tuned), before)
        assert torch.equal(tuned(x), wanted)
    tuned.base_model.disable_adapter_layers()
    with tuned.disable_adapter():
        assert torch.equal(tuned(x), base(x))
    assert torch.equal(tuned(x), base(x))  # it was disabled before
    tuned.base_model.enable_adapter_layers()
    assert torch.equal(tuned(x), wanted)


@torch.no_grad()
def test_adapters_with_and_without_a_head_of_their_own(base, x):  # noqa: F811
    tuned = tuned_of(base)
    tuned.add_adapter("plain", config(modules_to_save=None), autocast_adapter_dtype=False)
    tuned.set_adapter("plain")
    moved(tuned, 3)
    expected = _layer_alone(base, tuned, ["plain"])
    close(tuned(x), expected(x))
    own = tuned.base_model.model.head.modules_to_save["default"]
    tuned.set_adapter("default")
    close(tuned(x), own(torch.tanh(base.frozen(by_hand(base, tuned).layer(x)))))


def test_an_adapter_that_is_added_after_loading_is_the_one_that_trains(base, tmp_path):  # noqa: F811
    tuned_of(base).save_pretrained(tmp_path)
    for trainable in (False, True):
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=trainable)
        trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
        assert bool(trained) == trainable
        assert all(".default" in name for name in trained)
        loaded.add_adapter("new", config())
        loaded.set_adapter("new")
        trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
        assert trained
        assert all(".new" in name for name in trained)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_and_trains_in_the_lower_dtype(base, x, dtype):  # noqa: F811
    tuned = get_peft_model(copy.deepcopy(base).float(), config()).train()
    with torch.autocast("cpu", dtype):
        found = tuned(x.float())
    assert found.isfinite().all()
    found.float().square().sum().backward()
    atoms = tuned.base_model.model.layer.filtersub_atoms["default"]
    assert atoms.dtype == atoms.grad.dtype == torch.float32
    plain = copy.deepcopy(base).float()
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(found.detach(), plain(x.float()).detach(), rtol=0.1, atol=0.1)


def test_what_the_base_layer_shows_is_shown(base):  # noqa: F811
    tuned, plain = tuned_of(base), base.layer
    layer = tuned.base_model.model.layer
    close(layer.weight.detach(), by_hand(base, tuned).layer.weight.detach())  # the one that the layer computes with
    assert (layer.bias is None and plain.bias is None) or torch.equal(layer.bias, plain.bias)
    inputs = next(getattr(plain, name) for name in ("in_channels", "in_features", "nx") if hasattr(plain, name))
    outputs = next(getattr(plain, name) for name in ("out_channels", "out_features", "nf") if hasattr(plain, name))
    assert (layer.in_features, layer.out_features) == (inputs, outputs)


class Siblings(nn.Module):
    """Names that are the beginning or the end of one another."""

    def __init__(self):
        super().__init__()
        self.conv, self.conv2, self.pre_conv = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.head, self.head_norm = nn.Linear(4, 3), nn.LayerNorm(4)

    def forward(self, x):  # noqa: F811
        return self.head(self.head_norm(self.pre_conv(self.conv2(self.conv(x))).mean((2, 3))))


@torch.no_grad()
@pytest.mark.parametrize(("asked", "found"), [(["conv"], ["conv"]), (r"(pre_)?conv", ["conv", "pre_conv"])])
@pytest.mark.parametrize("name", ["default", "conv", "head", "conv2.weight_"])
def test_names_that_hold_one_another(asked, found, name, tmp_path):
    torch.manual_seed(0)
    plain = Siblings().double().eval()
    given = FilterSubspaceConfig(atoms=2, solver="pca", target_modules=asked, modules_to_save=["head"])
    image = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    if "." in name or name in ("head",):
        with pytest.raises(ValueError, match=name.split(".")[0]):
            get_peft_model(copy.deepcopy(plain), given, adapter_name=name)
        return
    tuned = get_peft_model(copy.deepcopy(plain), given, adapter_name=name, autocast_adapter_dtype=False)
    moved(tuned, 2)
    assert sorted(tuned.targeted_module_names) == found
    tuned.save_pretrained(tmp_path)
    place = tmp_path if name == "default" else tmp_path / name
    others = Siblings().double().eval()
    others.load_state_dict(plain.state_dict())
    others.head_norm.weight.fill_(2.0)
    loaded = PeftModel.from_pretrained(others, place, autocast_adapter_dtype=False)
    assert (loaded.base_model.model.head_norm.weight == 2.0).all()  # a module that is not in the file
    loaded.base_model.model.head_norm.weight.fill_(1.0)
    assert torch.equal(loaded(image), tuned(image))


def _layer_alone(base, tuned, adapters):  # noqa: F811
    """by_hand, where the adapters have no head of their own."""
    layer, plain = tuned.base_model.model.layer, copy.deepcopy(base)
    with torch.no_grad():
        for name in adapters:
            layout = layer.layouts[name]
            rows = layout.to_rows(plain.layer.weight)
            plain.layer.weight.copy_(layout.to_weight(rows + layer.coefficients(name) @ layer.filtersub_atoms[name]))
    return plain
