"""Counts from a list of layers are those of the network, and the list that is packaged is the network's."""

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from filtersub import FiltersubError, packaged_models
from filtersub.kernels import select_layers
from filtersub.models import head_name, load_model
from filtersub.paper import count_settings
from filtersub.parameters import load_architecture
from filtersub.parameters.outline import Outline, outline_of, packaged_kernels, packaged_outline

MODELS = ("efficientnet_lite0", "resnet18", "convnext_atto", "vit_tiny_patch16_224")
METHODS = (
    "filter-subspace",
    "linear",
    "full",
    "lora",
    "lora-loralib",
    "dora",
    "loha",
    "lokr",
    "oft",
    "boft",
    "adalora",
)
METHODS += ("hra", "hira", "ia3", "conv-adapter", "bitfit", "norm", "ssf")
CHOICES = {
    "method": (*METHODS, *["filter-subspace"] * 12),
    "atoms": (1, 3, 9, 30),
    "block": (None, None, 1, 2, 4, (4, 2), 7, 1000),
    "block_spatial": (False, False, True),
    "block_coefficients": (False, False, True),
    "solver": ("lasso", "pca", "random", "omp"),
    "expansion": (None, None, 2, (3, 2)),
    "expansion_coefficients": ("shared", "per-channel"),
    "expansion_layers": ("spatial", "all"),
    "limit_atoms": (True, False),
    "nonzeros": (None, None, None, 2),
    "train_coefficients": (False, False, False, True),
    "rank": (1, 4, 16),
    "layers": (None, None, "blocks", r"\.0\.", "conv", "nothing is named so", "("),
    "overrides": (
        *(None, None, None, {"0": {"atoms": 2}}, {"0": {"block": 2}, r"\.1": {"solver": "omp"}}),
        *({"conv": {"atoms": 2}, "0": {"atoms": 3}}, {"0": {}, "1": {"m": 1}}, {"nothing is named so": {"atoms": 2}}),
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    return load_architecture(request.param)


def test_counts_are_those_of_the_network(network):
    """Whatever the settings are; where the outline has no count, count_settings knows why, or looks at features."""
    outline, draw, counted = Outline.from_json(outline_of(network).to_json()), random.Random(0), 0
    for _ in range(300):
        settings = {name: draw.choice(values) for name, values in CHOICES.items()}
        try:
            expected = count_settings(network, settings)
        except FiltersubError:
            expected = None
        try:
            found = outline.count(settings)
        except FiltersubError:
            found = None
        if expected is None:
            assert found is None, settings
        elif found is None:
            pytest.fail(f"no count of {settings}")
        else:
            assert found == {name: getattr(expected, name) for name in ("trainable", "head", "total")}, settings
            counted += 1
    assert counted > 60


def test_a_new_head_is_counted(network):
    outline, settings = outline_of(network), {"method": "filter-subspace"}
    other = nn.Linear(network.get_classifier().in_features, 10)
    found = outline.count(settings, classes=10)
    assert found["head"] == sum(p.numel() for p in other.parameters())
    assert found["total"] - found["head"] == outline.total - outline.head


def test_the_packaged_outline_is_the_networks():
    assert packaged_outline("efficientnet_lite0") == outline_of(load_architecture("efficientnet_lite0"))
    assert packaged_outline("../outlines/efficientnet_lite0") is None
    assert packaged_outline("resnet18") is None


def test_the_packaged_kernels_are_the_networks(monkeypatch):
    network, kernels = load_model("efficientnet_lite0"), packaged_kernels("efficientnet_lite0")
    assert head_name(kernels) == head_name(network)
    wanted, found = (select_layers(model, block=1) for model in (network, kernels))
    assert found == wanted
    assert list(found) == list(wanted)
    assert len(found) == 50
    for name in wanted:
        theirs, ours = network.get_submodule(name).weight, kernels.get_submodule(name).weight
        assert torch.equal(ours, theirs), name
        assert ours.stride() == theirs.stride(), name
    assert packaged_kernels("resnet18") is None
    assert packaged_kernels("efficientnet_lite1") is None
    packaged = packaged_models.PACKAGED["efficientnet_lite0"]
    other = replace(packaged, read=lambda file: dict(list(packaged.read(file).items())[10:]))
    for changed in (other, replace(packaged, package="not_installed_here")):  # then load_model says what is wrong
        monkeypatch.setitem(packaged_models.PACKAGED, "efficientnet_lite0", changed)
        assert packaged_kernels("efficientnet_lite0") is None


@pytest.mark.parametrize("name", ["resnetv2_50x1_bit", "swin_tiny_patch4_window7_224"])
def test_counts_of_other_networks(name):
    """Weights with gains beside them have no outline; where there is one its counts hold."""
    network = load_architecture(name)
    outline = outline_of(network)
    for method in ("filter-subspace", "lora", "linear", "full"):
        if outline is not None:
            expected = count_settings(network, {"method": method})
            assert outline.count({"method": method})["trainable"] == expected.trainable


def test_a_network_that_needs_a_look_has_no_outline():
    assert outline_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyLinear(5))) is None
    normed = nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(4, 2)
    )
    assert outline_of(normed) is None
