"""The method in plain torch (filtersub/method.py) computes what the package computes."""

import copy

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.utils import parametrize

from filtersub import FilterSubspaceConfig, method
from filtersub.dictionary import learn_dictionary
from filtersub.kernels import layout_of
from filtersub.sparse_coding import kkt_violation, lasso, lasso_objective
from filtersub.tuning.layer import FilterSubspaceLayer


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(), nn.Conv2d(12, 8, 1)]
    return nn.Sequential(*layers).double().eval()


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("side", [1, 3])
def test_rows_are_those_of_the_package(block, side):
    layer = nn.Conv2d(8, 12, side)
    rows = method.kernel_matrix(layer.weight, block)
    assert torch.equal(rows, layout_of("layer", layer, block, block_spatial=True).to_rows(layer.weight))
    assert torch.equal(method.weight_of(rows, layer.weight.shape, block), layer.weight)


def test_codes_reach_the_optimum_of_the_exact_solver(network):
    rows = method.kernel_matrix(network[2].weight.detach())
    _, atoms = method.learn(rows, 6, 0.01, rounds=3)
    alpha = method.codes(rows, atoms, 0.01, steps=20_000)
    exact = lasso(rows, atoms, 0.01)
    torch.testing.assert_close(alpha, exact.codes, rtol=0, atol=1e-8)
    assert kkt_violation(rows, atoms, alpha, 0.01) <= 1e-8


def test_learning_lowers_the_objective_to_that_of_the_package(network):
    rows = method.kernel_matrix(network[2].weight.detach())
    starts = [method.learn(rows, 6, 0.01, rounds=rounds) for rounds in (1, 60)]
    first, last = (lasso_objective(rows, atoms, alpha, 0.01) for alpha, atoms in starts)
    assert last < first
    torch.testing.assert_close(starts[1][1].norm(dim=1), torch.ones(6, dtype=torch.float64))
    package = min(learn_dictionary(rows, 6, l1_penalty=0.01, seed=seed).objective[-1] for seed in range(3))
    assert abs(last - package) <= 0.1 * package  # not convex: another local minimum, as good


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({}, lambda alpha, d: method.Atoms(alpha, d)),
        ({"block": 4, "block_spatial": True}, lambda alpha, d: method.Atoms(alpha, d, 4)),
        ({"expansion": 3}, lambda alpha, d: method.AtomsOfAtoms(alpha, d, 3)),
    ],
    ids=["setting 1", "setting 3", "setting 2"],
)
def test_outputs_and_gradients_are_those_of_the_adapter(network, options, make):
    """With the package's coefficients and the same numbers in the atoms."""
    plain = copy.deepcopy(network).requires_grad_(False)
    tuned = get_peft_model(network, FilterSubspaceConfig(atoms=3, target_modules="2", **options))
    (adapted,) = (module for module in tuned.modules() if isinstance(module, FilterSubspaceLayer))
    alpha = adapted.coefficients("default").double()
    ours = make(alpha, plain[2].weight.numel() // len(alpha))
    parametrize.register_parametrization(plain[2], "weight", ours)
    theirs = {"atoms": adapted.filtersub_atoms["default"]}
    if "expansion" in options:
        theirs["alpha_1"] = adapted.filtersub_expansion["default"][0]
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(torch.randn_like(parameter))
            theirs[name].copy_(parameter.view_as(theirs[name]))
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    for model in (plain, tuned):
        model(images).square().sum().backward()
    torch.testing.assert_close(plain(images), tuned(images))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad.view_as(parameter))
    outputs = plain(images)
    method.merge(plain)
    torch.testing.assert_close(plain(images), outputs)
    assert not list(plain.buffers())


def test_a_wrapped_model_starts_unchanged_and_trains_only_its_atoms(network):
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    before = network(images)
    method.wrap(network, n_atoms=3)
    assert torch.equal(network(images), before)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {f"{layer}.parametrizations.weight.0.atoms" for layer in (0, 2)}
