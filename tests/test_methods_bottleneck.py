"""Conv-Adapter: nothing changes at the start, the branch is what the paper writes, counts are those of the tensors."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn import functional

from filtersub.errors import FiltersubError
from filtersub.methods import MethodOptions, inject
from filtersub.methods.features import add_conv_adapters_
from filtersub.models import head_name
from filtersub.parameters import count_parameters, count_trained, load_architecture
from filtersub.parameters.baselines import conv_adapter_width

KINDS = {
    "plain": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "strided, no bias": lambda: nn.Conv2d(8, 12, 3, stride=2, bias=False),
    "reflected": lambda: nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"),
    "padded by name": lambda: nn.Conv2d(8, 12, 3, padding="same"),
    "padded by timm": lambda: Conv2dSame(8, 12, 3, stride=2),
    "dilated": lambda: nn.Conv2d(8, 12, 3, dilation=2),
    "not square": lambda: nn.Conv2d(8, 12, (1, 5), padding=(0, 2)),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8),
    "three channels": lambda: nn.Conv2d(3, 12, 7, stride=2, padding=3),
    "one dimension": lambda: nn.Conv1d(8, 12, 3),
    "three dimensions": lambda: nn.Conv3d(8, 12, 3),
}


def beside(kind, dtype=torch.float32):
    """(the layer, the layer with its branch, images)."""
    torch.manual_seed(0)
    layer = KINDS[kind]().to(dtype)
    sides = {"one dimension": 1, "three dimensions": 3}.get(kind, 2)
    model = nn.ModuleDict({"layer": copy.deepcopy(layer)}).requires_grad_(False)
    add_conv_adapters_(model, ["layer"], 4)
    return layer, model["layer"], torch.randn(2, layer.in_channels, *[13] * sides).to(dtype)


def moved(layer):
    with torch.no_grad():
        for parameter in layer.conv_adapter.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_at_the_start_is_the_layers_bit_for_bit(kind, dtype):
    layer, adapted, images = beside(kind, dtype)
    assert torch.equal(adapted(images), layer(images))
    assert not torch.equal(moved(adapted)(images), layer(images))


def test_autocast_puts_out_what_the_layer_does():
    layer, adapted, images = beside("plain")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adapted(images), layer(images))
        assert moved(adapted)(images).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["plain", "strided, no bias", "dilated", "not square", "grouped", "depthwise"])
def test_the_branch_is_scale_up_relu_down(kind):
    """Written out: every channel between sums the patches of its own input channels, channel by channel."""
    layer, adapted, images = beside(kind, torch.float64)
    branch = moved(adapted).conv_adapter
    width, share = branch.down.weight.shape[:2]
    assert width * share == layer.in_channels
    kernel = (layer.stride, layer.padding, layer.dilation)
    hidden = [
        functional.conv2d(images[:, j * share : (j + 1) * share], branch.down.weight[j : j + 1], None, *kernel)
        + branch.down.bias[j]
        for j in range(width)
    ]
    hidden = torch.cat(hidden, 1).clamp(min=0)
    up = torch.einsum("oj,njyx->noyx", branch.up_weight.flatten(1), hidden) + branch.up_bias.view(-1, 1, 1)
    torch.testing.assert_close(adapted(images), layer(images) + branch.scale * up)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind):
    _, adapted, images = beside(kind, torch.float64)
    branch = moved(adapted).conv_adapter
    names, values = zip(*branch.named_parameters(), strict=True)

    def summed(*parameters):
        out = torch.func.functional_call(branch, dict(zip(names, parameters, strict=True)), (images[:1],))
        return torch.stack([out.square().sum(), out.sum()])

    assert torch.autograd.gradcheck(summed, values, fast_mode=True)


@pytest.mark.parametrize("reduction", [1, 4, 5])
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "efficientnet_lite0", "convnext_tiny"])
def test_counts_are_the_tensors_of_whole_models(name, reduction):
    options = MethodOptions(reduction=reduction)
    counted = count_parameters(name, "conv-adapter", options=options)
    model = load_architecture(name)
    head, frozen = head_name(model), sum(p.numel() for p in model.parameters())
    inject(model, "conv-adapter", head, options=options)
    trained = count_trained(model, head, name, "conv-adapter", frozen)
    assert trained.trainable == counted.trainable == sum(p.numel() for p in model.parameters()) - frozen > 0
    branches = {n.removesuffix(".conv_adapter") for n, _ in model.named_modules() if n.endswith("conv_adapter")}
    assert branches == {layer.name for layer in counted.layers}


def test_channels_between_divide_those_that_come_in():
    assert [conv_adapter_width(n, 4) for n in (64, 3, 6, 7, 1)] == [16, 1, 2, 7, 1]


def test_what_was_trained_is_in_the_state_of_a_new_model_with_the_branches():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 2))
    again, images = copy.deepcopy(model), torch.randn(2, 3, 6, 6)
    first = inject(model, "conv-adapter", "4").model
    for name in ("0", "2"):
        moved(first.get_submodule(name))
    second = inject(again, "conv-adapter", "4").model
    assert not torch.equal(second(images), first(images))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(images), first(images))
    assert torch.equal(torch.compile(first, backend="aot_eager", fullgraph=True)(images), first(images))


def test_bad_input_is_named():
    with pytest.raises(FiltersubError, match="reduction of conv-adapter must be a positive integer, got 0"):
        MethodOptions(reduction=0)
    with pytest.raises(FiltersubError, match="conv-adapter tunes bottlenecks beside the spatial convolutions, and the"):
        inject(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2)), "conv-adapter", "1")
