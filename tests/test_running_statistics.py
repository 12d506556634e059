"""Instance norms with running statistics, and other layers that have such, keep to what batch_norm says."""

import copy

import pytest
import torch
from timm.layers import EvoNorm2dB0
from timm.models import register_model
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from filtersub.models import load_model
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


@pytest.mark.parametrize("form", [parametrizations.spectral_norm, spectral_norm], ids=["parametrisation", "hook"])
@pytest.mark.parametrize("trained", [False, True])
def test_vectors_of_spectral_norm_stand_still_where_the_weight_does(form, trained):
    """A frozen layer is then the same in training, when judged and in the network as it is loaded."""
    model, images = network(form(nn.Conv2d(4, 4, 3)))
    model[1].requires_grad_(trained)
    before = copy.deepcopy(model.state_dict())
    set_training_mode_(model, "recomputed")
    model(images)
    stood = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert stood != trained


@register_model
def normed_of_the_tests(num_classes=3, **_):
    layers = (parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)).eval()


def test_weights_of_a_network_that_computes_its_own_are_read(tmp_path):
    """As they are stored: weight and spectral norm in the model take the parts, not the weight that these make."""
    model, images = normed_of_the_tests(), torch.randn(2, 3, 8, 8)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    read = load_model("normed_of_the_tests", weights=tmp_path / "own.pth")
    torch.testing.assert_close(read(images), model(images), rtol=0, atol=0)
