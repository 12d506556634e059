"""Networks that torch's channels-last convolutions would abort train all the same, on a CPU with the channels first."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.models import channels_last_, load_model, trains_channels_last
from filtersub.training import TrainingConfig, classification, fit


@pytest.mark.parametrize("may", [True, False])
def test_training_asks_which_order_a_network_takes(monkeypatch, may):
    monkeypatch.setattr(classification, "trains_channels_last", lambda model, device: may)
    images, seen = TensorDataset(torch.randn(40, 3, 16, 16), torch.arange(40) % 3), []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    last = {"memory_format": torch.channels_last}
    model[0].register_forward_pre_hook(
        lambda layer, given: seen.append(
            (layer.training, given[0].is_contiguous(**last), layer.weight.is_contiguous(**last))
        )
    )
    fit(model, images, images, 3, TrainingConfig(epochs=1, batch_size=4))
    assert {(images, weight) for training, images, weight in seen if training} == {(may, may)}


@pytest.mark.parametrize(("name", "may"), [("repvgg_a0", False), ("mobileone_s0", False), ("resnet18", True)])
def test_networks_that_begin_with_one_keep_the_channels_first_on_a_cpu(name, may):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert (trains_channels_last(model, "cpu"), trains_channels_last(model, "cuda")) == (may, True)


@pytest.mark.parametrize(("stride", "last"), [(2, False), (1, True)])
def test_memory_of_a_whole_network_is_of_one_kind(stride, last):
    layers = channels_last_(nn.Sequential(nn.Conv2d(3, 4, 1, stride=stride), nn.Conv2d(4, 4, 3)))
    assert layers[1].weight.is_contiguous(memory_format=torch.channels_last) == last


def test_the_network_of_most_experiments_has_the_channels_last():
    assert trains_channels_last(load_model("efficientnet_lite0", pretrained=False), "cpu")
