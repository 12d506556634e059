"""What cannot be trained at all is said before anything is."""

import pytest
import torch
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.experiment.run import try_image
from filtersub.models import load_model

IMAGE = torch.zeros(3, 32, 32)


def test_a_classifier_passes_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 900, 5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try_image(model, IMAGE, 5, "net")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(FiltersubError, match=r"net puts out a tensor of shape \(1, 5\) for an image, not \(1, 6\)"):
        try_image(model, IMAGE, 6, "net")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "torchvision:alexnet"])
def test_images_of_a_size_that_the_model_cannot_take(name):
    model = load_model(name, pretrained=False, num_classes=5)
    with pytest.raises(FiltersubError, match=rf"{name} cannot take images of 32 x 32 pixels .*choose another image_si"):
        try_image(model, IMAGE, 5, name)
    assert not model.training


def test_auxiliary_heads_are_not_trained():
    model = load_model("torchvision:googlenet", pretrained=False, num_classes=5).train()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_a_model_that_is_no_classifier():
    model = load_model("torchvision:fcn_resnet50", pretrained=False)
    with pytest.raises(FiltersubError, match=r"fcn puts out OrderedDict for an image, not \(1, 21\) scores"):
        try_image(model, IMAGE, 21, "fcn")
