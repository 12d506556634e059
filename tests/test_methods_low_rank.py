"""LoRA in loralib's form: the update that loralib's formulas give, its shapes and start, merged, copies left alone."""

import copy
import math

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn.functional import conv2d, linear
from torch.nn.utils import parametrizations

from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.methods import MethodOptions, inject, merged
from filtersub.methods.low_rank import add_loralib_
from filtersub.parameters import BaselineOptions, count_parameters
from filtersub.parameters.baselines import LAYER_RULES

RANK = 3
LAYERS = {
    "convolution": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "large kernel": lambda: nn.Conv2d(3, 8, 5, stride=2, bias=False),
    "reflected padding": lambda: nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"),
    "dilated": lambda: nn.Conv2d(8, 12, 3, dilation=2),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8),
    "pointwise": lambda: nn.Conv2d(8, 12, 1),
    "one dimension, pointwise": lambda: nn.Conv1d(8, 12, 1),
    "linear": lambda: nn.Linear(8, 12),
}
REFUSED = {
    "not square": lambda: nn.Conv2d(8, 8, (1, 7)),
    "one dimension": lambda: nn.Conv1d(8, 12, 3),
    "three dimensions": lambda: nn.Conv3d(8, 12, 3),
    "transposed": lambda: nn.ConvTranspose2d(8, 12, 3),
}


def with_update(layer, rank=RANK, scale=0.5):
    model = nn.ModuleDict({"layer": copy.deepcopy(layer)}).requires_grad_(False)
    add_loralib_(model, ["layer"], MethodOptions(rank=rank, adapter_scale=scale))
    return model


def moved(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", LAYERS)
def test_the_update_is_loralibs(kind):
    """weight + scale (B A).view(weight.shape), each entry summed by hand from its place in the product."""
    torch.manual_seed(0)
    plain = LAYERS[kind]().double()
    model = moved(with_update(plain))
    a, b = (getattr(model["layer"].parametrizations.weight[0], name).detach() for name in ("lora_A", "lora_B"))
    k = plain.kernel_size[0] if hasattr(plain, "kernel_size") else 1
    groups = getattr(plain, "groups", 1)
    ins, outs = plain.weight.shape[1] * groups, plain.weight.shape[0]
    assert tuple(a.shape) == (RANK * k, ins * k)
    assert tuple(b.shape) == (outs // groups * k, RANK * k)
    wanted = plain.weight.detach().clone().flatten()
    for place in range(wanted.numel()):
        row, column = divmod(place, ins * k)  # the product's numbers, read along its rows
        wanted[place] += 0.5 * sum(b[row, j] * a[j, column] for j in range(RANK * k))
    torch.testing.assert_close(model["layer"].weight.flatten(), wanted, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_it_starts_as_the_layer_and_as_loralib(kind):
    torch.manual_seed(0)
    plain = LAYERS[kind]()
    update = (adapted := with_update(plain, scale=2.0)["layer"]).parametrizations.weight[0]
    assert torch.equal(adapted.weight, plain.weight)
    bound = 1 / math.sqrt(update.lora_A.shape[1])  # kaiming_uniform with a = sqrt 5
    assert 0.5 * bound < float(update.lora_A.detach().abs().max()) <= bound
    assert {name for name, p in adapted.named_parameters() if p.requires_grad} == {
        "parametrizations.weight.0.lora_A",
        "parametrizations.weight.0.lora_B",
    }


@pytest.mark.parametrize("kind", [*LAYERS, *REFUSED])
def test_the_count_is_that_of_the_factors(kind):
    layer = {**LAYERS, **REFUSED}[kind]()
    counted = LAYER_RULES["lora-loralib"](layout_of("layer", layer, block=1), layer, BaselineOptions(rank=RANK))
    if kind in REFUSED:
        assert counted == 0
    else:
        assert counted == sum(p.numel() for p in with_update(layer).parameters() if p.requires_grad)


def test_counts_are_those_of_the_authors_and_of_the_paper():
    """ResNet50 by the authors' code, 100 classes; ConvNeXt-B as Table 1 prints it."""
    assert count_parameters("torchvision:resnet50", "lora-loralib", rank=16).trainable == 1_803_568
    convnext = count_parameters("torchvision:convnext_base", "lora-loralib", rank=16, num_classes=100)
    assert round((convnext.trainable + convnext.head) / 1e6, 1) == 17.4


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "linear"])
def test_merging_a_copy_leaves_the_model_and_the_other_way_round(kind):
    torch.manual_seed(0)
    model = moved(with_update(LAYERS[kind]()))
    again, wanted = copy.deepcopy(model), model["layer"].weight.detach().clone()
    for first, second in ((model, again), (again, model)):
        plain = merged(first, "lora-loralib")
        assert set(dict(plain["layer"].named_parameters())) == {"weight", "bias"}
        assert torch.equal(plain["layer"].weight, wanted)
        assert torch.equal(second["layer"].weight, wanted)


def test_weights_that_are_computed_are_updated_in_their_order():
    """Standardised convolutions standardise the updated weight; weight norm comes before the update."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 9, 9)
    model = moved(with_update(plain := StdConv2d(3, 8, 3)))
    weight = model["layer"].weight.detach()
    variance, mean = torch.var_mean(weight.flatten(1), dim=1, correction=0)
    shape = (-1, 1, 1, 1)
    standard = (weight - mean.view(shape)) / (variance.view(shape) + plain.eps).sqrt()
    wanted = conv2d(images, standard, plain.bias, padding=plain.padding)
    torch.testing.assert_close(model["layer"](images), wanted, atol=1e-4, rtol=1e-4)
    normed = parametrizations.weight_norm(nn.Linear(8, 4))
    base = normed.weight.detach().clone()
    model, rows = moved(with_update(normed, scale=1.0)), torch.randn(5, 8)
    update = model["layer"].parametrizations.weight[1]
    wanted = linear(rows, base + update.lora_B @ update.lora_A, normed.bias)
    torch.testing.assert_close(model["layer"](rows), wanted)
    torch.testing.assert_close(merged(model, "lora-loralib")["layer"](rows), wanted)


def test_a_rank_above_the_channels_is_refused():
    """The largest rank of a k x k kernel is that of its channels: factors of rank r k update a matrix of side c k."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(FiltersubError, match="rank 4 is more than any layer has: 3 at most, that of 0"):
        inject(model, "lora-loralib", "3", options=MethodOptions(rank=4))
    assert inject(model, "lora-loralib", "3", options=MethodOptions(rank=3)).model is model


def test_depthwise_convolutions_may_have_a_rank_of_their_own():
    """r k (c_in + c_out / g) k numbers a layer: 5 on the depthwise one, 2 on the others."""
    model = nn.ModuleDict({"depth": nn.Conv2d(8, 8, 3, groups=8), "grouped": nn.Conv2d(8, 8, 3, groups=4)})
    add_loralib_(model, ["depth", "grouped"], MethodOptions(rank=2, depthwise_rank=5))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if "lora" in name}
    assert {shape for name, shape in shapes.items() if name.startswith("depth")} == {(15, 24), (3, 15)}
    assert {shape for name, shape in shapes.items() if name.startswith("grouped")} == {(6, 24), (6, 6)}
    with pytest.raises(FiltersubError, match="rank of depthwise convolutions must be a positive integer, got 0"):
        MethodOptions(depthwise_rank=0)
