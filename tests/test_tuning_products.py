"""Gradients of a convolution by matrix products: those of torch's own backward pass, in float64."""

import pytest
import torch
from torch import nn

from filtersub.engine.conv import depthwise, products

LAYERS = {
    "pointwise": nn.Conv2d(6, 8, 1),
    "pointwise, stride": nn.Conv2d(6, 8, 1, stride=2),
    "pointwise, padded": nn.Conv2d(6, 8, 1, padding=1),
    "spatial": nn.Conv2d(6, 8, 3, padding=1),
    "spatial, uneven": nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    "rows left over": nn.Conv2d(6, 8, 3, stride=3),
    "no bias": nn.Conv2d(6, 8, 3, bias=False),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradients_are_those_of_the_convolution(kind, monkeypatch):
    monkeypatch.setattr(products, "_least", lambda _: 0)
    torch.manual_seed(0)
    layer = LAYERS[kind].double().to(memory_format=torch.channels_last)
    x = torch.randn(2, 6, 8, 7, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = layer(x)
    gradient = torch.randn_like(out).contiguous(memory_format=torch.channels_last)
    given = [x, layer.weight, *([] if layer.bias is None else [layer.bias])]
    expected = torch.autograd.grad(out, given, gradient)
    with torch.no_grad():
        assert products.is_faster(layer, gradient, x, layer.weight)
        found = products.gradients(layer, gradient, x, layer.weight, [True, True, layer.bias is not None])
    for mine, theirs in zip(found, expected, strict=False):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        assert mine.ndim == 1 or mine.is_contiguous(memory_format=torch.channels_last)
    assert products.gradients(layer, gradient, x, layer.weight, [False] * 3) == (None, None, None)


def test_other_layers_and_other_memory_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(products, "_least", lambda _: 0)
    plain, grouped = (nn.Conv2d(4, 4, 3, groups=g).to(memory_format=torch.channels_last) for g in (1, 2))
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    out = plain(x).contiguous(memory_format=torch.channels_last)
    assert products.is_faster(plain, out, x, plain.weight)
    assert not products.is_faster(grouped, out, x, grouped.weight)
    assert not products.is_faster(plain, out, x.contiguous(), plain.weight)
    assert not products.is_faster(plain, out.bfloat16(), x.bfloat16(), plain.weight.bfloat16())
    monkeypatch.setattr(products, "_least", lambda _: 256)
    assert not products.is_faster(plain, out, x, plain.weight)


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
        assert depthwise.takes(layer, gradient, x)
        found = depthwise.weight_gradient(layer, gradient, x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_depthwise_layers_that_the_kernel_does_not_know_are_left_to_torch():
    x = torch.randn(2, 32, 5, 5).contiguous(memory_format=torch.channels_last)
    small = nn.Conv2d(32, 32, 3, groups=32)  # there torch is quick
    for layer in (small, nn.Conv2d(32, 32, 5), nn.Conv2d(32, 32, 5, groups=2), nn.Conv2d(32, 64, 5, groups=32)):
        assert not depthwise.takes(layer, layer(x).contiguous(memory_format=torch.channels_last), x)
    layer = nn.Conv2d(24, 24, 5, groups=24)
    few = x[:, :24].contiguous(memory_format=torch.channels_last)
    assert not depthwise.takes(layer, layer(few).contiguous(memory_format=torch.channels_last), few)


def test_products_are_for_layers_of_many_weights_and_few_positions():
    def pays(layer, side):
        layer = layer.to(memory_format=torch.channels_last)
        x = torch.randn(1, layer.in_channels, side, side).contiguous(memory_format=torch.channels_last)
        out = layer(x).contiguous(memory_format=torch.channels_last)
        return products.is_faster(layer, out, x, layer.weight)

    assert pays(nn.Conv2d(128, 128, 3, padding=1), 3)
    assert pays(nn.Conv2d(16, 16, 2, stride=2), 2)  # windows side by side
    assert not pays(nn.Conv2d(8, 8, 3, padding=1), 8)
    assert not pays(nn.Conv2d(8, 8, 1), 8)
