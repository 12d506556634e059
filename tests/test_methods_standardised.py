"""Layers that compute with another weight than they hold: standardised, normalised, computed by torch's norms."""

import copy
import warnings

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d

from filtersub.methods import MethodOptions, inject, merged, try_adapter
from filtersub.methods.probe import copy_on_cpu, follows_weight
from filtersub.models import head_name
from filtersub.parameters import count_parameters, count_trained

OPTIONS = MethodOptions(rank=2)
ADDED = ("ssf", "conv-adapter", "lora-loralib")


class CosineLinear(nn.Linear):
    """Rows of norm 1, as metric learning has them."""

    def forward(self, x):
        return functional.linear(x, functional.normalize(self.weight), self.bias)


class OwnStandardised(nn.Conv2d):
    """Written as in many repositories: mean and deviation of each kernel taken out."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return self._conv_forward(x, weight, self.bias)


STANDARDISED = {
    "StdConv2d": lambda: StdConv2d(4, 6, 3),
    "StdConv2d, strided, biased": lambda: StdConv2d(4, 6, 3, stride=2, bias=True),
    "StdConv2dSame": lambda: StdConv2dSame(4, 6, 3, stride=2),
    "ScaledStdConv2d": lambda: ScaledStdConv2d(4, 6, 3),
    "ScaledStdConv2d, grouped": lambda: ScaledStdConv2d(4, 8, 3, groups=2),
    "ScaledStdConv2dSame": lambda: ScaledStdConv2dSame(4, 6, 3, stride=2),
    "own": lambda: OwnStandardised(4, 6, 3, padding=1),
    "transformers": lambda: WeightStandardizedConv2d(4, 6, 3, padding=1),
    "cosine": lambda: CosineLinear(4, 6),
}
FOLLOWING = {
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    "linear": lambda: nn.Linear(4, 6),
    "no bias": lambda: nn.Linear(4, 6, bias=False),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 6)).eval(),
}


def rows_for(layer):
    return torch.randn(3, 4) if isinstance(layer, nn.Linear) else torch.randn(3, 4, 9, 9)


def network(first):
    flat = isinstance(first, nn.Linear)
    outs = first.out_features if flat else first.out_channels
    pool = [] if flat else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(first, nn.Tanh(), *pool, nn.Linear(outs, 3)).eval()


def injected(method, model):
    """Into the first layer alone."""
    return inject(model, method, str(len(model) - 1), options=OPTIONS, layers="^0$").model


def moved(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", [*STANDARDISED, *FOLLOWING])
def test_whether_the_output_follows_the_weight_is_seen(kind):
    layer = {**STANDARDISED, **FOLLOWING}[kind]()
    before, state = {name: t.clone() for name, t in layer.state_dict().items()}, torch.get_rng_state()
    assert follows_weight(layer) == (kind in FOLLOWING)
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert "bias" not in getattr(layer, "parametrizations", {})


@pytest.mark.parametrize("kind", [*STANDARDISED, *FOLLOWING])
def test_every_scale_and_shift_changes_its_channel(kind):
    """The output is scale * output + shift, channel by channel, whatever the layer makes of its weight."""
    torch.manual_seed(0)
    layer = {**STANDARDISED, **FOLLOWING}[kind]()
    rows, plain = rows_for(layer), copy_on_cpu(layer)
    wanted = plain(rows).detach()
    model = injected("ssf", network(layer))
    torch.testing.assert_close(model[0](rows), wanted)
    scale, shift = (p for name, p in model[0].named_parameters() if name.endswith((".scale", ".shift")))
    assert scale.numel() == shift.numel() == wanted.shape[1]
    moved(model)
    shape = (-1,) + (1,) * (wanted.ndim - 2)
    wanted = scale.view(shape) * wanted + shift.view(shape)
    torch.testing.assert_close(model[0](rows), wanted, atol=1e-5, rtol=1e-5)
    model[0](rows).square().sum().backward()
    assert bool((scale.grad != 0).all())
    torch.testing.assert_close(merged(model, "ssf")[0](rows), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in STANDARDISED if kind != "cosine"])
def test_conv_adapter_stands_beside_them_with_a_plain_branch(kind):
    torch.manual_seed(0)
    layer = STANDARDISED[kind]()
    images = rows_for(layer)
    wanted = layer(images).detach()
    model = injected("conv-adapter", network(layer))
    assert torch.equal(model[0](images), wanted)
    counted = count_parameters(model, "conv-adapter", layers="^0$").trainable
    branch = moved(model)[0].conv_adapter
    assert sum(p.numel() for p in branch.parameters()) == counted
    hidden = torch.relu(branch.down(images))
    assert hidden.shape[2:] == wanted.shape[2:]
    torch.testing.assert_close(branch.down(images) - branch.down(0 * images), twice(branch.down, images) / 2)
    model(images).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in branch.parameters())


def twice(down, images):
    """The bias apart, what a kernel twice as large puts out."""
    doubled = copy.deepcopy(down)
    with torch.no_grad():
        doubled.weight.mul_(2)
    return doubled(images) - doubled(0 * images)


@pytest.mark.parametrize("method", ADDED)
def test_a_normalisation_free_network_trains_all_that_is_counted(method):
    torch.manual_seed(0)
    model = timm.create_model("test_nfnet", num_classes=5).eval()
    for layer in model.modules():
        if isinstance(layer, ScaledStdConv2d):
            nn.init.normal_(layer.gain)  # timm starts some at zero, and then nothing before them has a gradient
    total, head, images = sum(p.numel() for p in model.parameters()), head_name(model), torch.randn(2, 3, 32, 32)
    counted, before = count_parameters(model, method, options=OPTIONS), model(images)
    found = inject(model, method, head, options=OPTIONS)
    assert not found.skipped
    assert count_trained(found.model, head, "nf", method, total).trainable == counted.trainable > 0
    torch.testing.assert_close(found.model(images), before, atol=1e-5, rtol=1e-4)
    moved(found.model)(images).square().sum().backward()
    gradients = {name: p.grad.abs().max() for name, p in model.named_parameters() if p.requires_grad}
    assert min(gradients.values()) > 1e-7 * max(gradients.values()), gradients


def test_no_scale_of_a_standardised_network_is_dead():
    """resnetv2_50x1_bit on shapes alone: convolutions scale their output, normalisation layers their weight."""
    with torch.device("meta"):
        model = timm.create_model("resnetv2_50x1_bit", num_classes=5)
    counted = count_parameters(model, "ssf").trainable
    found = inject(model, "ssf", "head.fc")
    trained = {name: p.numel() for name, p in found.model.named_parameters() if p.requires_grad and "head" not in name}
    assert sum(trained.values()) == counted == 2 * 49_280
    on_outputs = sum(n for name, n in trained.items() if name.endswith("scale_and_shift.scale"))
    convolutions = [layer for layer in model.modules() if isinstance(layer, StdConv2d)]
    assert on_outputs == sum(layer.out_channels for layer in convolutions) == 26_560


@pytest.mark.parametrize("method", [*ADDED, "lora", "loha"])
@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_hooks_that_compute_the_weight_are_passed_over_with_the_reason(norm, method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    found = inject(model, method, "3", options=OPTIONS)
    assert set(found.skipped) == {"0"}
    assert found.skipped["0"] == "its weight is computed from other parameters (weight or spectral norm)"
    assert found.model(torch.randn(2, 3, 5, 5)).shape == (2, 2)


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr"])
@pytest.mark.parametrize("kind", ["StdConv2d", "ScaledStdConv2d", "own"])
def test_low_rank_updates_that_standardising_would_change_are_refused(kind, method):
    """peft merges the factors into the weight, which the layer then standardises."""
    refusal = try_adapter(method, STANDARDISED[kind](), OPTIONS).refusal
    assert refusal == "the merged layer computes something else"


@pytest.mark.parametrize("copied_first", [True, False])
@pytest.mark.parametrize("method", ["ssf", "lora-loralib"])
@pytest.mark.parametrize("kind", ["convolution", "linear", "weight norm", "StdConv2d"])
def test_merging_one_copy_leaves_the_other(kind, method, copied_first):
    layer = {**STANDARDISED, **FOLLOWING}[kind]()
    model = moved(injected(method, network(layer)))
    second, rows = copy.deepcopy(model), rows_for(layer)
    wanted = model(rows).detach()
    first, other = (second, model) if copied_first else (model, second)
    for each in (merged(first, method), other, merged(other, method)):
        torch.testing.assert_close(each(rows), wanted, atol=1e-5, rtol=1e-4)


def test_a_deep_copy_of_a_parametrized_model_is_not_touched():
    """torch shares one class between deep copies of a parametrized layer, and changes it."""
    first = network(parametrizations.weight_norm(nn.Conv2d(4, 6, 3, bias=False)))
    second, images = copy.deepcopy(first), torch.randn(2, 4, 9, 9)
    wanted = first(images).detach()
    merged(moved(injected("ssf", first)), "ssf")
    assert torch.equal(second(images), wanted)
    assert set(dict(second[0].named_parameters())) == {
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    }
