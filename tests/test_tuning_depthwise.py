"""The weight gradient of depthwise convolutions by our kernel: that of torch's own backward pass, in float64."""

import pytest
import torch
from torch import nn

from filtersub.engine.conv import depthwise

DEPTHWISE = {
    "7 x 7": {"kernel_size": 7, "padding": 3},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "uneven": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)},
}


@pytest.mark.parametrize("kind", DEPTHWISE)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_weight_gradient_of_depthwise_layers_is_torch_s(kind, threads, monkeypatch):
    monkeypatch.setattr(depthwise, "_LARGE", 0)
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 32, groups=32, **DEPTHWISE[kind]).double().to(memory_format=torch.channels_last)
    x = torch.randn(9, 32, 9, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(layer(x)).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(layer(x), layer.weight, gradient)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = depthwise.weight_gradient(layer, gradient, x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_depthwise_layers_that_the_kernel_does_not_know_are_left_to_torch():
    x = torch.randn(2, 32, 5, 5).contiguous(memory_format=torch.channels_last)
    small = nn.Conv2d(32, 32, 3, groups=32)  # there torch is quick
    for layer in (small, nn.Conv2d(32, 32, 5), nn.Conv2d(32, 32, 5, groups=2), nn.Conv2d(32, 64, 5, groups=32)):
        gradient = layer(x).contiguous(memory_format=torch.channels_last)
        assert depthwise.weight_gradient(layer, gradient, x) is None
    layer = nn.Conv2d(24, 24, 5, groups=24)
    few = x[:, :24].contiguous(memory_format=torch.channels_last)
    gradient = layer(few).contiguous(memory_format=torch.channels_last)
    assert depthwise.weight_gradient(layer, gradient, few) is None
    wide = nn.Conv2d(32, 32, 4, groups=32)
    gradient = wide(x)
    for other in (gradient.contiguous(), gradient.bfloat16(), gradient.double()):  # memory, precision, mixed precision
        assert depthwise.weight_gradient(wide, other, x) is None
