"""Gradients by Winograd's minimal filtering: those of torch's own backward pass."""

import copy

import pytest
import torch
from torch import nn

from filtersub.tuning import winograd

SHAPES = {
    "whole tiles": (2, 16, 32, 8, 12, 1),
    "tiles over the edge": (3, 32, 16, 7, 9, 1),
    "no padding": (2, 16, 16, 9, 6, 0),
    "more padding": (2, 16, 48, 5, 6, (2, 1)),
    "one position": (3, 16, 16, 3, 3, 0),
}


def layer_and_tensors(n, ins, outs, height, width, padding, dtype=torch.float64, **options):
    torch.manual_seed(0)
    layer = nn.Conv2d(ins, outs, 3, padding=padding, **options).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(n, ins, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        gradient = torch.randn_like(layer(x)).contiguous(memory_format=torch.channels_last)
    return layer, x, gradient


def gradients(layer, x, gradient):
    """Of input and weight, by torch."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer(x), [x, layer.weight], gradient)


@pytest.mark.parametrize("one_image_a_part", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradients_are_those_of_the_convolution(shape, threads, one_image_a_part, monkeypatch):
    if one_image_a_part:
        monkeypatch.setattr(winograd, "_PART", 1)
    layer, x, gradient = layer_and_tensors(*SHAPES[shape])
    expected = gradients(layer, x, gradient)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            to_x, to_weight, to_bias = winograd.gradients(layer, gradient, x, layer.weight, [True] * 3)
    finally:
        torch.set_num_threads(before)
    for mine, theirs in zip((to_x, to_weight), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        assert mine.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(to_bias, gradient.sum((0, 2, 3)), rtol=1e-12, atol=1e-12)
    assert winograd.gradients(layer, gradient, x, layer.weight, [False] * 3) == (None, None, None)


def test_float32_loses_little():
    """To the largest entry, against float64: here 2.2 and 2.0 millionths, where torch's sums lose 1.1 and 1.8."""
    layer, x, gradient = layer_and_tensors(16, 128, 128, 12, 12, 1, torch.float32)
    double = copy.deepcopy(layer).double()
    exact = gradients(double, x.double(), gradient.double())
    with torch.no_grad():
        found = winograd.gradients(layer, gradient, x, layer.weight, [True, True, False])
    for mine, true in zip(found, exact, strict=False):
        assert (mine - true).abs().max() < 4e-6 * true.abs().max()


def test_it_is_for_plain_layers_of_many_positions(monkeypatch):
    def suits(shape, **options):
        layer, x, gradient = layer_and_tensors(*shape, torch.float32, **options)
        return winograd.pays(layer, gradient, x, layer.weight)

    large = (12, 16, 32, 8, 8, 1)
    assert suits(large)
    assert suits((48, 16, 32, 7, 7, 1))
    assert not suits((11, *large[1:]))  # 44 tiles
    assert not suits((48, 16, 32, 6, 6, 1))  # tiles of which nearly half lies outside
    assert not suits((12, 24, 32, 8, 8, 1))  # channels that fill no vector
    assert not suits((12, 16, 32, 8, 8, 3))
    for options in ({"stride": 2}, {"dilation": 2}, {"groups": 2}):
        assert not suits((48, 32, 32, 16, 16, 1), **options)
    layer, x, gradient = layer_and_tensors(*large, torch.float32)
    assert not winograd.pays(layer, gradient, x.contiguous(), layer.weight)
    assert not winograd.pays(layer, *(t.bfloat16() for t in (gradient, x, layer.weight)))
    wide = nn.Conv2d(16, 32, 5, padding=2).to(memory_format=torch.channels_last)
    assert not winograd.pays(wide, gradient, x, wide.weight)
    monkeypatch.setattr(winograd, "_MOST_WEIGHTS", layer.weight.numel() - 1)
    assert not suits(large)
