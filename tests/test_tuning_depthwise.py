"""The weight gradient of depthwise convolutions by our kernel: that of torch's own backward pass."""

from contextlib import nullcontext

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from filtersub.engine.conv import depthwise
from filtersub.training import needed_activations

DEPTHWISE = {
    "7 x 7": {"kernel_size": 7, "padding": 3},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "uneven": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)},
}


def weight_gradient(layer, gradient, x):
    sides = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return depthwise.weight_gradient(gradient, x, *sides)


@pytest.mark.parametrize("kind", DEPTHWISE)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("images", [(9, 32, 9, 8), (6, 32, 2, 2), (5, 32, 1, 3), (1, 32, 2, 1), (0, 32, 2, 2)])
def test_the_weight_gradient_of_depthwise_layers_is_torch_s(kind, threads, images, monkeypatch):
    monkeypatch.setattr(depthwise, "_LARGE", 0)
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 32, groups=32, **DEPTHWISE[kind]).double().to(memory_format=torch.channels_last)
    x = torch.randn(images, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    sides = zip(images[2:], layer.padding, layer.kernel_size, layer.dilation, strict=True)
    if any(pixels + 2 * pad <= (taps - 1) * gap for pixels, pad, taps, gap in sides):
        pytest.skip("the kernel is larger than the padded image")
    gradient = torch.randn_like(layer(x)).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(layer(x), layer.weight, gradient)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = weight_gradient(layer, gradient, x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_depthwise_layers_that_the_kernel_does_not_know_are_left_to_torch():
    x = torch.randn(2, 32, 5, 5).contiguous(memory_format=torch.channels_last)
    few = x[:, :24].contiguous(memory_format=torch.channels_last)
    for seen, kernel in ((x, 3), (few, 5)):  # there torch is quick; not a whole vector of channels
        layer = nn.Conv2d(seen.shape[1], seen.shape[1], kernel, groups=seen.shape[1])
        assert weight_gradient(layer, layer(seen).contiguous(memory_format=torch.channels_last), seen) is None
    wide = nn.Conv2d(32, 32, 4, groups=32)
    gradient = wide(x)
    for other in (gradient.contiguous(), gradient.bfloat16(), gradient.double()):  # memory, precision, mixed precision
        assert weight_gradient(wide, other, x) is None


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(32, 32, 5), nn.Conv2d(32, 32, 5, groups=2), nn.Conv2d(32, 64, 5, groups=32)]
)
def test_layers_that_are_not_of_a_channel_a_group_are_left_to_torch(layer, monkeypatch):
    monkeypatch.setattr(depthwise, "weight_gradient", None)  # not called
    x = torch.randn(2, 32, 5, 5).contiguous(memory_format=torch.channels_last)
    with needed_activations():
        layer(x).square().sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_images_with_fewer_lines_than_the_kernel_are_the_kernel_s(lines):
    """There torch takes 40 times as long as with one line more."""
    layer = nn.Conv2d(32, 32, 3, padding=1, groups=32)
    x = torch.randn(2, 32, lines, 5).contiguous(memory_format=torch.channels_last)
    assert (weight_gradient(layer, torch.ones_like(x), x) is not None) == (lines < 3)


TRAINED = {
    "5 x 5": lambda: nn.Conv2d(32, 32, 5, padding=2, groups=32),
    "a bias and a stride": lambda: nn.Conv2d(32, 32, (4, 2), stride=(2, 1), padding=(2, 1), groups=32),
    "padded by timm": lambda: Conv2dSame(32, 32, 5, stride=2, groups=32, bias=False),
    "padded by name": lambda: nn.Conv2d(32, 32, 5, padding="same", groups=32),
    "around a torus": lambda: nn.Conv2d(32, 32, 5, padding=2, groups=32, padding_mode="circular"),
    "two outputs a channel": lambda: nn.Conv2d(32, 64, 5, padding=2, groups=32),
    "of all channels": lambda: nn.Conv2d(32, 32, 5, padding=2),
    "a weight that is computed": lambda: weight_norm(nn.Conv2d(32, 32, 5, padding=2, groups=32)),
}


def trained_gradients(kind, mode, x, dtype, create_graph=False):
    """(output, gradients of the parameters and of the images, twice where create_graph)."""
    torch.manual_seed(0)
    layer, x = TRAINED[kind]().to(dtype), x.clone(memory_format=torch.preserve_format).requires_grad_()
    wanted = [*layer.parameters(), x]
    with mode:
        output = layer(x)
        loss = (output * torch.arange(output.numel()).view_as(output).cos()).pow(2).sum()
        found = torch.autograd.grad(loss, wanted, create_graph=create_graph)
        if create_graph:
            found = torch.autograd.grad(sum(each.pow(2).sum() for each in found), wanted)
    return [output.detach(), *found]


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("size", [(3, 32, 6, 5), (2, 32, 2, 2), (1, 32, 1, 4)])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_depthwise_layers_that_train_have_torchs_outputs_and_gradients(kind, size, order):
    if kind == "around a torus" and min(size[2:]) < 2:
        pytest.skip("padding around the edge needs as many pixels as it adds")
    x = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=order
    )
    own, torchs = (trained_gradients(kind, mode, x, torch.float64) for mode in (needed_activations(), nullcontext()))
    assert torch.equal(own[0], torchs[0])
    torch.testing.assert_close(own[1:], torchs[1:], rtol=1e-11, atol=1e-11)


def test_gradients_that_are_differentiated_again_are_torchs():
    x = torch.randn(2, 32, 6, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    own, torchs = (
        trained_gradients("5 x 5", mode, x, torch.float64, create_graph=True)
        for mode in (needed_activations(), nullcontext())
    )
    torch.testing.assert_close(own, torchs, rtol=1e-11, atol=1e-11)


def test_a_training_step_takes_the_kernel_but_not_in_mixed_precision_nor_without_gradients(monkeypatch):
    seen, kernel = [], depthwise.weight_gradient
    monkeypatch.setattr(depthwise, "weight_gradient", lambda *given: seen.append(1) or kernel(*given))
    x = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last)
    trained_gradients("5 x 5", needed_activations(), x, torch.float32)
    assert len(seen) == 1
    with torch.autocast("cpu", torch.bfloat16):
        trained_gradients("5 x 5", needed_activations(), x, torch.float32)
    with needed_activations(), torch.no_grad():
        TRAINED["5 x 5"]()(x)
    assert len(seen) == 1


def test_images_that_need_no_gradient_get_none():
    """The first layer of a network."""
    x = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last)
    layer, found = TRAINED["5 x 5"](), []
    for mode in (needed_activations(), nullcontext()):
        with mode:
            found.append(torch.autograd.grad(layer(x).square().sum(), [layer.weight]))
    torch.testing.assert_close(*found)
    assert x.grad is None


def test_many_gradients_at_once_are_torchs():
    x = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last)
    layer, many = TRAINED["5 x 5"](), torch.randn(3, 2, 32, 6, 5)
    found = []
    for mode in (needed_activations(), nullcontext()):
        with mode:
            found.append(torch.autograd.grad(layer(x), layer.weight, many, is_grads_batched=True)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("trained", [True, False])
def test_layers_that_torch_compiles_within_stay_one_graph(trained):
    """The kernel would break it; with fullgraph that is an error."""
    torch._dynamo.reset()
    x, found = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_(), []
    for mode in (needed_activations(), nullcontext()):
        layer = TRAINED["5 x 5"]().requires_grad_(trained)
        wanted = [x, *(layer.parameters() if trained else ())]
        torch.nn.init.constant_(layer.weight, 0.5), torch.nn.init.ones_(layer.bias)
        with mode:
            output = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
            found.append([output.detach(), *torch.autograd.grad(output.square().sum(), wanted)])
    torch.testing.assert_close(*found)


def test_strides_that_are_tensors_are_torchs():
    x = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, found = torch.randn(32, 1, 5, 5, requires_grad=True), []
    for trained in (True, False):
        for mode in (needed_activations(), nullcontext()):
            with mode:
                output = nn.functional.conv2d(
                    x, weight.requires_grad_(trained), None, (torch.tensor(2), 1), 2, 1, groups=32
                )
                found.append(torch.autograd.grad(output.square().sum(), [x, weight] if trained else [x]))
    torch.testing.assert_close(*found[:2])
    torch.testing.assert_close(*found[2:])
