"""Networks that torch's channels-last convolutions would abort train all the same, on a CPU with the channels first."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from filtersub.models import channels_last_, load_model, trains_channels_last

#: training in a process of its own, as what goes wrong ends it
TRAINING = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from filtersub.training import TrainingConfig, fit

images = TensorDataset(torch.randn(40, 3, 16, 16), torch.arange(40) % 3)
model = nn.Sequential(nn.Conv2d(3, 48, 1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 3))
result = fit(model, images, images, 3, TrainingConfig(epochs=3, batch_size=4))
print(len(result.history), "epochs")
"""


def test_a_strided_pixel_convolution_of_three_channels_trains():
    environment = {"MALLOC_CHECK_": "3", "CUDA_VISIBLE_DEVICES": ""}  # glibc's: look for damage at each release
    command = ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, "-c", TRAINING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3 epochs\n"), done.stderr


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
