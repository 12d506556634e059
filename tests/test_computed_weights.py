"""Layers that compute their weight: what is decomposed is the weight they run with, and a rebuilt one is run with."""

import copy

import pytest
import torch
from peft import get_peft_model
from timm.layers import ScaledStdConv2d, StdConv2d
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from filtersub import DecompositionConfig, decompose_model
from filtersub.diagnostics import agreement, output_table, prediction_table
from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig

KINDS = {
    "plain": lambda layer: layer,
    "weight norm": parametrizations.weight_norm,
    "weight norm, older": lambda layer: nn.utils.weight_norm(layer),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm, older": nn.utils.spectral_norm,
    "orthogonal": lambda layer: parametrizations.orthogonal(layer) if type(layer) is nn.Conv2d else layer,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned twice": lambda layer: prune.random_unstructured(prune.l1_unstructured(layer, "weight", 0.3), "weight", 0.3),
}
RECIPE = DecompositionConfig(atoms=2, solver="pca")


def network(kind, inner=nn.Conv2d):
    torch.manual_seed(0)
    first, second = KINDS[kind](nn.Conv2d(3, 8, 3)), KINDS[kind](inner(8, 8, 3))
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(first, nn.ReLU(), second, *tail).double().eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("inner", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_network_runs_with_the_rebuilt_kernels(kind, inner):
    net, x = network(kind, inner), torch.randn(4, 3, 10, 10, dtype=torch.float64)
    before = net(x)
    found = decompose_model(net, RECIPE)
    by_hand = network("plain", inner)  # the same layers with the reconstructions as plain weights
    for name in ("0", "2"):
        by_hand.get_submodule(name).weight.data = found.layers[name].weight()
        by_hand.get_submodule(name).bias.data = net.get_submodule(name).bias.data
    by_hand[5].load_state_dict(net[5].state_dict())
    table = prediction_table(net, found, [x])
    gap = (before - by_hand(x)).norm(dim=1) / before.norm(dim=1)
    torch.testing.assert_close(torch.tensor(table["logit_error"].to_numpy()), gap.detach(), rtol=1e-9, atol=0)
    assert agreement(table)["logit_error"].iloc[0] > 1e-3
    assert torch.equal(net(x), before), "the network that was looked at is as it was"
    torch.testing.assert_close(found.rebuild_(net)(x), by_hand(x), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("kind", ["weight norm, older", "spectral norm, older", "pruned"])
def test_the_weight_that_is_decomposed_is_not_left_over_from_other_parameters(kind):
    """Hooks fill ``weight`` before a forward pass only: parameters loaded since then are not in it."""
    net = network(kind)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith(("weight_g", "weight_v", "weight_orig")):
                value.mul_(torch.rand_like(value) + 0.5)
    found = decompose_model(net, DecompositionConfig(atoms=9, solver="pca"))
    net(torch.randn(1, 3, 10, 10, dtype=torch.float64))
    torch.testing.assert_close(found.layers["0"].weight(), net[0].weight.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [StdConv2d, ScaledStdConv2d, nn.Conv2d])
@pytest.mark.parametrize("bias", [False, True])
def test_output_errors_are_those_that_are_measured(kind, bias):
    torch.manual_seed(0)
    net = nn.Sequential(kind(3, 16, 3, padding=1, bias=bias)).double().eval()
    x = torch.randn(6, 3, 12, 12, dtype=torch.float64)
    found = decompose_model(net, DecompositionConfig(atoms=6, solver="pca"))
    again = found.rebuild_(copy.deepcopy(net))
    silent = net(x) if not bias else net(x) - net[0].bias[:, None, None]
    said = output_table(net, found, [x])["output_error"].iloc[0]
    assert said == pytest.approx(float((again(x) - net(x)).norm() / silent.norm()), rel=1e-9)


def test_weights_that_cannot_be_replaced_are_refused_before_anything_is():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    net[1].root = net[1].weight
    del net[1].weight
    net[1].register_forward_pre_hook(lambda layer, _: setattr(layer, "weight", layer.root.square()))
    net(torch.randn(1, 3, 8, 8))
    found = decompose_model(net, RECIPE)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(FiltersubError, match=r"layer '1' \(Conv2d\) computes its weight"):
        found.rebuild_(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_layers_of_one_weight_need_one_reconstruction():
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    net[1].weight = net[0].weight
    decompose_model(net, RECIPE).rebuild_(copy.deepcopy(net))
    other = decompose_model(net, RECIPE, overrides={"1": {"atoms": 3}})
    with pytest.raises(FiltersubError, match="layers '0' and '1' share one weight"):
        other.rebuild_(net)


def test_parametrisations_of_ones_own_are_taken_off():
    class Tripled(nn.Module):
        def forward(self, weight):
            return 3 * weight

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3))
    parametrize.register_parametrization(net[0], "weight", Tripled())
    found = decompose_model(net, RECIPE).rebuild_(net)
    assert isinstance(found[0].weight, nn.Parameter)
    assert not parametrize.is_parametrized(found[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_a_network_in_training_changes_nothing(kind):
    net = network(kind).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = decompose_model(net, RECIPE)
    again = decompose_model(net, RECIPE)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(layer.atoms, again.layers[name].atoms) for name, layer in found.layers.items())


class _Masked(nn.Conv2d):
    """As in PixelCNN and learned image compression: the mask is written into the weight whenever the layer runs."""

    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class _Replaced(_Masked):
    def forward(self, x):
        self.weight.data = self.weight.data * self.mask
        return nn.Conv2d.forward(self, x)


class _Clipped(nn.Conv2d):
    """As in networks for EEG: filters are kept below a norm."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.1)
        return super().forward(x)


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("kind", [_Masked, _Replaced, _Clipped])
def test_layers_that_write_to_their_weight_are_refused(kind, block):
    """Autograd does not see the write: the atoms' gradient would be that of a layer without its mask."""
    torch.manual_seed(0)
    net = nn.Sequential(kind(4, 8, 3), nn.Conv2d(8, 8, 3))
    tuned = get_peft_model(net, FilterSubspaceConfig(solver="pca", block=block))
    with pytest.raises(FiltersubError, match=rf"layer '0' \({kind.__name__}\) changes its weight whenever it runs"):
        tuned(torch.randn(2, 4, 8, 8))
    rest = get_peft_model(
        nn.Sequential(kind(4, 8, 3), nn.Conv2d(8, 8, 3)),
        FilterSubspaceConfig(solver="pca", block=block, exclude_modules=["0"]),
    )
    assert rest(torch.randn(2, 4, 8, 8)).shape == (2, 8, 4, 4)
