"""Layers that share a parameter, and one layer in several places: wrapped once each, merged and unmerged exactly."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.models import head_name
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer


class Tied(nn.Module):
    """Two layers that hold one Parameter."""

    def __init__(self, one, other, between=nn.Identity):
        super().__init__()
        self.a, self.between, self.b = one, between(), other
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.between(self.a(x))))


class Autoencoder(nn.Module):
    """A transposed convolution with the weight of a convolution, and a function that reads it too."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 8, 3, padding=1), nn.ConvTranspose2d(8, 6, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Heads(nn.Module):
    """One module as an attribute, in a list and inside a block that is used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.heads = nn.ModuleList([self.conv, nn.Conv2d(6, 6, 1)])
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh())
        self.again = nn.Sequential(self.block, self.conv)

    def forward(self, x):
        x = self.again(self.block(self.conv(x)))
        return sum(head(x) for head in self.heads)


def in_sequence(layer):
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1))


def conv(**options):
    return nn.Conv2d(6, 6, 3, padding=1, **options)


MODELS = {
    "tied convolutions": lambda: Tied(conv(), conv()),
    "tied grouped convolutions": lambda: Tied(conv(groups=2), conv(groups=2)),
    "tied linear layers": lambda: nn.Sequential(Tied(nn.Linear(12, 12), nn.Linear(12, 12)), conv()),
    "tied with the head, which takes no part": lambda: Tied(nn.Linear(12, 12), nn.Linear(12, 12)),
    "tied across kinds": Autoencoder,
    "tied 1 x 1 kernels": lambda: nn.Sequential(Tied(nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)), conv()),
    "one module twice": lambda: in_sequence(conv()),
    "one depthwise module twice": lambda: in_sequence(conv(groups=6)),
    "one transposed module twice": lambda: in_sequence(nn.ConvTranspose2d(6, 6, 3, padding=1)),
    "one module in many places": Heads,
    "tied and in many places": lambda: _both(),
}


def _both():
    net = Heads()
    net.block[0].weight = net.conv.weight
    return net


@pytest.fixture(params=MODELS)
def net(request):
    torch.manual_seed(0)
    return MODELS[request.param]().double().eval()


X = torch.randn(2, 6, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CONFIG = {"atoms": 3, "block": 2, "solver": "pca"}


def tuned_of(net, **options):
    tuned = get_peft_model(net, FilterSubspaceConfig(**CONFIG, **options), autocast_adapter_dtype=False).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "filtersub_atoms" in name:
                parameter.normal_(std=0.2, generator=generator)
    return tuned


def by_hand(net, tuned):
    """The network with each place's weight replaced by base weight + update, the places untied."""
    plain = copy.deepcopy(net)
    for layer in {id(m): m for m in tuned.modules() if isinstance(m, FilterSubspaceLayer)}.values():
        module = plain.get_submodule(layer.name)
        weight = layer.get_base_layer().weight + layer.get_delta_weight("default")
        module.weight = nn.Parameter(weight.detach().clone())
    return plain


@torch.no_grad()
def test_merging_is_exact_and_gives_back_what_was_there(net):
    base, before = copy.deepcopy(net), copy.deepcopy(net.state_dict())
    plain = net(X)
    tuned = tuned_of(net)
    wanted = by_hand(base, tuned)(X)
    torch.testing.assert_close(tuned(X), wanted, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(wanted, plain, atol=1e-3)
    adapted = tuned(X)
    for _ in range(2):
        tuned.merge_adapter()
        assert torch.equal(tuned(X), adapted)
        tuned.unmerge_adapter()
        assert torch.equal(tuned(X), adapted)
        with tuned.disable_adapter():
            assert torch.equal(tuned(X), plain)
    unloaded = copy.deepcopy(tuned).unload()
    assert torch.equal(unloaded(X), plain)
    assert all(torch.equal(value, before[name]) for name, value in unloaded.state_dict().items())
    assert len(list(unloaded.parameters())) == len(list(base.parameters())), "what was tied is tied again"
    merged = tuned.merge_and_unload()
    assert torch.equal(merged(X), adapted)
    assert not any(isinstance(module, FilterSubspaceLayer) for module in merged.modules())


@torch.no_grad()
def test_every_place_is_trained_saved_once_and_loaded(net, tmp_path):
    base = copy.deepcopy(net)
    tuned = tuned_of(net)
    layers = [module for module in tuned.modules() if isinstance(module, FilterSubspaceLayer)]
    kinds = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    modules = [m for n, m in base.named_modules() if isinstance(m, kinds) and n != head_name(base)]
    assert len(layers) == len(modules) > 0
    tuned.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    assert torch.equal(again(X), tuned(X))
    tuned.add_adapter("second", FilterSubspaceConfig(**CONFIG))
    tuned.set_adapter("second")
    assert torch.equal(tuned(X), base(X))
    tuned.delete_adapter("second")
    tuned.set_adapter("default")
    assert torch.equal(again(X), tuned(X))
    restored = tuned_of(copy.deepcopy(base))
    restored.load_state_dict(tuned.state_dict())
    assert torch.equal(restored(X), tuned(X))


def test_gradients_of_a_module_in_many_places_are_those_of_one_weight(net):
    base = copy.deepcopy(net)
    tuned = tuned_of(net)
    tuned(X).square().sum().backward()
    plain = by_hand(base, tuned)
    plain(X).square().sum().backward()
    for layer in (module for module in tuned.modules() if isinstance(module, FilterSubspaceLayer)):
        weight_gradient = plain.get_submodule(layer.name).weight.grad
        rows = layer.layouts["default"].to_rows(weight_gradient)
        expected = layer.coefficients("default").T @ rows
        torch.testing.assert_close(layer.filtersub_atoms["default"].grad, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("how", [{"exclude_modules": ["2"]}, {"modules_to_save": ["2"]}])
def test_a_module_left_out_in_one_of_its_places_is_refused_before_anything_is_wrapped(how):
    net = in_sequence(conv())
    with pytest.raises(FiltersubError, match="layers '0' and '2' are one module"):
        get_peft_model(net, FilterSubspaceConfig(**CONFIG, **how))
    assert not any(isinstance(module, FilterSubspaceLayer) for module in net.modules())


def test_any_of_its_names_means_the_module():
    tuned = get_peft_model(in_sequence(conv()), FilterSubspaceConfig(**CONFIG, target_modules=["2"]))
    assert tuned.base_model.model[0] is tuned.base_model.model[2]
    assert isinstance(tuned.base_model.model[0], FilterSubspaceLayer)
    assert not isinstance(tuned.base_model.model[4], FilterSubspaceLayer)


class Container(nn.Module):
    """A head of several layers, with batch norm and dropout, as torchvision's classifiers have."""

    def __init__(self, head):
        super().__init__()
        self.features = nn.Sequential(conv(), nn.BatchNorm2d(6), conv())
        self.classifier = head

    def forward(self, x):
        return self.classifier(self.features(x))


HEADS = {
    "sequential": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6 * 144, 8), nn.Hardswish(), nn.Linear(8, 4)),
    "segmentation": lambda: nn.Sequential(conv(), nn.BatchNorm2d(6), nn.Dropout(0.1), nn.Conv2d(6, 3, 1)),
    "list inside": lambda: Heads(),
    "one layer": lambda: nn.Conv2d(6, 3, 1),
}


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_heads_that_are_containers_merge_and_unload(head):
    torch.manual_seed(0)
    net = Container(HEADS[head]()).double().eval()
    features, plain = copy.deepcopy(net.features), net(X)
    tuned = tuned_of(net, modules_to_save=["classifier"])
    for parameter in tuned.base_model.model.classifier.modules_to_save.default.parameters():
        parameter.add_(0.1)
    wanted = tuned(X)
    assert not torch.allclose(wanted, plain)
    unloaded = copy.deepcopy(tuned).unload()
    assert torch.equal(unloaded.features(X), features(X))
    merged = tuned.merge_and_unload()
    assert torch.equal(merged(X), wanted)
    assert type(merged.classifier) is type(HEADS[head]())
