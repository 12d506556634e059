"""Passes for batch norm's statistics: as accurate as float64 tells, and none that would find the same again."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.training import TrainingConfig, batch_norm, fit, recompute_batch_norm_


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("offset", [0.0, 30.0, -300.0])
def test_statistics_of_float32_images_agree_with_float64(offset, layout):
    images = (torch.randn(40, 6, 9, 5, generator=torch.Generator().manual_seed(0)) * 2 + offset).contiguous(
        memory_format=layout
    )
    norm = nn.BatchNorm2d(6)
    recompute_batch_norm_(norm, images.split((16, 24)))
    values = images.double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(norm.running_mean.double(), values.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), values.var(1), rtol=2e-6 + 1e-7 * abs(offset), atol=0)


def network(norm_in_head=False):
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)) if norm_in_head else nn.Linear(8, 3)
    body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential()
    for number, layer in enumerate(body):
        model.add_module(f"body{number}", layer.requires_grad_(False))
    model.add_module("head", head)
    return model


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % 3
    pictures = torch.randn(40, 3, 8, 8, generator=generator) + labels[:, None, None, None]
    return TensorDataset(pictures, labels)


class Redrawn(TensorDataset):
    """Images that are others in each epoch, as augmented ones are."""

    def begin_epoch(self, epoch):
        self.tensors = (self.tensors[0] + 0.1 * epoch, self.tensors[1])


@pytest.fixture
def passes(monkeypatch):
    """Images that each pass for the statistics read."""
    read, plain = [], batch_norm.recompute_batch_norm_

    def counted(model, batches):
        batches = list(batches)
        read.append(sum(map(len, batches)))
        plain(model, batches)

    monkeypatch.setattr("filtersub.training.classification.recompute_batch_norm_", counted)
    return read


CONFIG = TrainingConfig(epochs=4, batch_size=10, learning_rate=0.05)


@pytest.mark.parametrize("case", ["head alone", "a trained body", "batch norm in the head", "other images each epoch"])
def test_statistics_that_cannot_have_changed_are_not_made_again(case, passes, monkeypatch):
    model, train = network("norm" in case), images(0)
    if case == "a trained body":
        model.body0.requires_grad_(True)
    if case == "other images each epoch":
        train = Redrawn(*train.tensors)
    other, again = copy.deepcopy(model), copy.deepcopy(train)
    found = fit(model, train, images(1), 3, CONFIG, head="head")
    assert len(passes) == (2 if case == "head alone" else CONFIG.epochs)
    monkeypatch.setattr("filtersub.training.classification.statistics_stand_still", lambda model, head: False)
    wanted = fit(other, again, images(1), 3, CONFIG, head="head")
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in found.history]
    assert timeless == [{k: v for k, v in row.items() if k != "seconds"} for row in wanted.history]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_run_that_goes_on_makes_them_once_more_and_ends_with_the_same_bits(tmp_path):
    whole, broken = network(), network()
    fit(whole, images(0), images(1), 3, CONFIG, head="head")

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(broken, images(0), images(1), 3, CONFIG, head="head", folder=tmp_path, on_epoch=stop)
    again = network()
    fit(again, images(0), images(1), 3, CONFIG, head="head", folder=tmp_path)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
