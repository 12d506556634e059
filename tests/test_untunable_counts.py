"""Layers whose weight no adapter can train: counts, budgets and training agree that they take no part."""

import re
from dataclasses import asdict

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.utils import prune

from filtersub import FilterSubspaceConfig, count_parameters
from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.kernels import tunable_layers, untunable
from filtersub.methods import inject
from filtersub.parameters import GradientEnergy, allot, suggest_settings

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(4, 4, 3, padding=1), (2, 4, 6)),
    "conv2d": (lambda: nn.Conv2d(4, 4, 3, padding=1), (2, 4, 5, 5)),
    "grouped": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2), (2, 4, 5, 5)),
    "pointwise": (lambda: nn.Conv2d(4, 4, 1), (2, 4, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(4, 4, 3, padding=1), (2, 4, 3, 3, 3)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 4, 3, padding=1), (2, 4, 6)),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 4, 3, padding=1), (2, 4, 5, 5)),
    "transposed3d": (lambda: nn.ConvTranspose3d(4, 4, 3, padding=1), (2, 4, 3, 3, 3)),
    "linear": (lambda: nn.Linear(4, 4), (2, 4)),
}


def as_buffer(layer):
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)


def weight_normed(layer):
    nn.utils.parametrizations.weight_norm(layer)


WAYS = {as_buffer: "a buffer, no parameter", pruned: "computed", weight_normed: "computed"}


class Net(nn.Module):
    def __init__(self, make, change):
        super().__init__()
        self.first, self.second, self.norm = make(), make(), nn.Identity()
        change(self.second)

    def forward(self, x):
        return self.norm(self.second(self.first(x)))


@pytest.mark.parametrize("change", WAYS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", LAYERS)
def test_count_budget_and_training_agree(kind, change, capsys):
    make, shape = LAYERS[kind]
    net = Net(make, change)
    block = 2 if kind in ("pointwise", "linear") else None
    recipe = DecompositionConfig(atoms=4, solver="pca", block=block)
    assert WAYS[change] in untunable(net.second)
    count = count_parameters(net, recipe=recipe)
    assert [layer.name for layer in count.layers] == ["first"]
    assert list(tunable_layers(net, block=block)) == ["first"]
    suggestions = suggest_settings(net, 1000, solver="pca", top=3)
    assert suggestions
    for found in suggestions:
        counted = count_parameters(net, recipe=found.recipe, layers=found.layers)
        assert counted.trainable == found.trainable
    tuned = get_peft_model(net, FilterSubspaceConfig(**asdict(recipe), target_modules=".*"))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained == count.trainable == tuned.get_nb_trainable_parameters()[0]
    tuned.print_trainable_parameters()
    assert re.match(rf"trainable params: {trained:,} \|\|", capsys.readouterr().out)
    before = net.second.weight.clone()
    tuned(torch.randn(shape)).square().sum().backward()
    assert all(p.grad is not None for p in tuned.parameters() if p.requires_grad)
    torch.testing.assert_close(net.second.weight, before)


def test_a_record_names_the_layer_that_is_passed_over():
    found = inject(
        Net(LAYERS["conv2d"][0], as_buffer), "filter-subspace", None, recipe=DecompositionConfig(solver="pca")
    )
    assert found.trainable == 81
    assert found.skipped == {"second": "its weight is a buffer, no parameter"}


def test_nothing_to_tune_is_an_error_that_says_why():
    net = Net(LAYERS["conv2d"][0], as_buffer)
    as_buffer(net.first)
    for ask in (lambda: tunable_layers(net), lambda: suggest_settings(net, 1000)):
        with pytest.raises(
            FiltersubError, match="no layer can be tuned; 'first': its weight is a buffer, no parameter"
        ):
            ask()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.frozen = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        as_buffer(self.frozen)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def get_classifier(self):
        return self.fc

    def forward_features(self, x):
        return self.frozen(self.stem(x))

    def forward_head(self, x, pre_logits=False):
        pooled = self.pool(x).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_a_budget_is_not_allotted_to_a_weight_that_is_a_buffer():
    torch.manual_seed(0)
    energy = GradientEnergy(Classifier(), torch.randn(12, 3, 8, 8), torch.arange(12) % 3)
    found = allot(energy, 200, atoms=(2, 4), blocks=(2,))
    assert list(found.recipes) == ["stem"]
    assert found.table["name"].tolist() == ["stem"]
