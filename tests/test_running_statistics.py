"""Instance norms with running statistics, and other layers that have such, keep to what batch_norm says."""

import copy

import pytest
import torch
from timm.layers import EvoNorm2dB0
from torch import nn

from filtersub.training.batch_norm import recompute_batch_norm_, set_training_mode_

NORMS = {
    "batch": lambda: nn.BatchNorm2d(4),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "evonorm": lambda: EvoNorm2dB0(4),
}


def network(norm):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    recompute_batch_norm_(model, [images])
    return model, images


@pytest.mark.parametrize("mode", ["frozen", "adapted"])
@pytest.mark.parametrize("kind", NORMS)
def test_statistics_stand_still_and_training_computes_what_is_judged(kind, mode):
    model, images = network(NORMS[kind]())
    before = copy.deepcopy(model.state_dict())
    set_training_mode_(model, mode)
    trained_on = model(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(trained_on, model.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("kind", NORMS)
def test_statistics_move_where_they_are_to(kind):
    model, images = network(NORMS[kind]())
    before = model[1].running_var.clone()
    set_training_mode_(model, "updated")
    model(2 * images)
    assert not torch.equal(before, model[1].running_var)


def test_recomputed_statistics_of_instance_norm_are_the_averages_over_images():
    """And those that torch's own average tends to, whatever the sizes of the batches."""
    model, images = network(NORMS["instance"]())
    recompute_batch_norm_(model, images.split([1, 2, 3]))
    maps = model[0](images).detach()
    torch.testing.assert_close(model[1].running_mean, maps.mean((2, 3)).mean(0))
    torch.testing.assert_close(model[1].running_var, maps.var((2, 3)).mean(0))
    own = nn.InstanceNorm2d(4, momentum=1.0, track_running_stats=True).train()
    own(maps)
    torch.testing.assert_close(model[1].running_var, own.running_var)
