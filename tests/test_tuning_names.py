"""Adapters by names of every sort, and on bases that torch.compile has wrapped, whole or in part."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.methods import MethodOptions, inject, merged
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

CONFIG = {"atoms": 3, "block": 2, "solver": "pca", "expansion": 2, "modules_to_save": ["head"]}
X = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(torch.tanh(self.stem(x))).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def move(model):
    """Stands for training: trained parameters and running statistics move."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        model.train()(X + 1)
    return model.eval()


NAMES = ["default", "my-task", "0", "body", "model", "base_model", "base_layer", "stem", "ä ö", "_orig_mod", "a" * 80]


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_of_this_name_works_from_adding_to_loading(net, name, tmp_path):
    base = copy.deepcopy(net)
    tuned = move(get_peft_model(net, FilterSubspaceConfig(**CONFIG), adapter_name=name))
    with torch.no_grad():
        wanted = tuned(X)
        tuned.save_pretrained(tmp_path)
        folder = tmp_path if name == "default" else tmp_path / name
        again = PeftModel.from_pretrained(copy.deepcopy(base), folder, adapter_name=name).eval()
        assert torch.equal(again(X), wanted)
        other = PeftModel.from_pretrained(copy.deepcopy(base), folder, adapter_name="other").eval()
        assert torch.equal(other(X), wanted)
        other.load_adapter(folder, adapter_name=name)
        other.set_adapter(name)
        assert torch.equal(other(X), wanted)
        other.delete_adapter("other")
        assert torch.equal(other(X), wanted)
        assert torch.equal(tuned.merge_and_unload()(X), wanted)


REFUSED = {
    "v1.0": "end at a dot",
    "": "not empty",
    "  ": "not empty",
    "a/b": "saved in a folder",
    "filtersub_atoms": "begin with",
    "my_filtersub_x": "begin with",
    "keys": "an attribute of this name",
    "forward": "an attribute of this name",
    "training": "an attribute of this name",
    "head": "is called so",
    "bias": "is called so",
    "1": "is called so",
    "running_mean": "is called so",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("door", ["get_peft_model", "add_adapter", "add_weighted_adapter"])
def test_names_that_cannot_be_held_are_refused_before_anything_is_changed(net, name, door):
    if door == "get_peft_model":
        with pytest.raises(FiltersubError, match=REFUSED[name]):
            get_peft_model(net, FilterSubspaceConfig(**CONFIG), adapter_name=name)
        assert not any(isinstance(module, FilterSubspaceLayer) for module in net.modules())
        return
    tuned = get_peft_model(net, FilterSubspaceConfig(**CONFIG))
    before = list(tuned.state_dict())
    add = {
        "add_adapter": lambda: tuned.add_adapter(name, FilterSubspaceConfig(**CONFIG)),
        "add_weighted_adapter": lambda: tuned.add_weighted_adapter(["default"], [1.0], name),
    }[door]
    with pytest.raises(FiltersubError, match=REFUSED[name]):
        add()
    assert list(tuned.state_dict()) == before
    assert list(tuned.peft_config) == ["default"]


def compiled_in(net, where):
    """The network with parts, or all of it, compiled (eagerly, so that nothing takes long)."""
    for name in where:
        if name:
            setattr(net, name, torch.compile(getattr(net, name), backend="eager"))
    return torch.compile(net, backend="eager") if "" in where else net


@pytest.mark.parametrize("loads_on", [(), ("",), ("stem", "head")])
@pytest.mark.parametrize("trained_on", [(), ("",), ("stem", "body"), ("", "body", "head")])
def test_adapters_know_no_compilation(net, trained_on, loads_on, tmp_path):
    base = copy.deepcopy(net)
    tuned = move(get_peft_model(compiled_in(net, trained_on), FilterSubspaceConfig(**CONFIG)))
    tuned.save_pretrained(tmp_path)
    assert "_orig_mod" not in (tmp_path / "adapter_config.json").read_text()
    assert b"_orig_mod" not in (tmp_path / "adapter_model.safetensors").read_bytes()
    again = PeftModel.from_pretrained(compiled_in(copy.deepcopy(base), loads_on), tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(X), tuned(X), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(again(X), base.eval()(X), atol=1e-2)


class FirstCalledLikeATunersLayer(nn.Module):
    """As timm's DLA names its first layers."""

    def __init__(self):
        super().__init__()
        self.base_layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh())
        self.level = nn.Module()
        self.level.base_layer = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.level.base_layer(self.base_layer(x))).mean((2, 3)))


@pytest.mark.parametrize("ending", ["merge_and_unload", "unload"])
@pytest.mark.parametrize("method", ["filter-subspace", "lora", "loha", "ssf"])
def test_a_model_may_call_its_own_layers_as_tuners_do(method, ending):
    torch.manual_seed(0)
    base = FirstCalledLikeATunersLayer().eval()
    state, before = base.state_dict(), base(X)
    tuned = inject(base, method, "head", options=MethodOptions(rank=2)).model.eval()
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        wanted = tuned(X)
    if ending == "unload" and method == "filter-subspace":
        assert list(tuned.unload().state_dict()) == list(state)
        return
    plain = merged(tuned, method)
    assert not torch.allclose(wanted, before, atol=1e-3)
    torch.testing.assert_close(plain(X), wanted, atol=1e-5, rtol=1e-4)
    assert [name for name, _ in plain.named_children()] == ["base_layer", "level", "head"]
