"""The backward pass of 3 x 3 convolutions with linear codes, that forms no weight gradient: torch's gradients."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from filtersub.engine.conv import spatial
from filtersub.kernels import layout_of
from filtersub.tuning import FilterSubspaceConfig
from filtersub.tuning.layer import tuned_layers

KINDS = {
    "padded": {"padding": 1},
    "stride": {"padding": 1, "stride": 2},
    "uneven": {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
}


def by_position(tensor):
    return tensor.contiguous(memory_format=torch.channels_last)


def reference(layer, gradient, x):
    """dx, and the kernels' products with the weight gradient, by autograd."""
    x = x.clone().requires_grad_()
    to_x, to_weight = torch.autograd.grad(layer(x), [x, layer.weight], gradient)
    return to_x, torch.einsum("oia,oib->ab", layer.weight.flatten(2), to_weight.flatten(2)).detach()


def found_by_kernel(layer, gradient, x):
    """The same by the kernel; the base weight is the layer's own, so B is zero."""
    to_x, to_bias, to_matrix = spatial.gradients(
        layer, gradient, x, layer.weight, torch.zeros(9, 9, dtype=x.dtype), True
    )
    torch.testing.assert_close(to_bias, gradient.sum((0, 2, 3)), equal_nan=True)
    return to_x, to_matrix


def problem(n_images=5, dtype=torch.float64, outputs=64, **settings):
    torch.manual_seed(0)
    layer = nn.Conv2d(48, outputs, 3, **settings).to(dtype).to(memory_format=torch.channels_last)
    x = by_position(torch.randn(n_images, 48, 7, 9, dtype=dtype))
    return layer, by_position(torch.randn_like(layer(x))), x


@pytest.mark.parametrize("at_once", [1, 2**13, 2**15, spatial._PRODUCTS])  # a line, some, an image, all of them
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_are_those_of_autograd(kind, threads, at_once, monkeypatch):
    monkeypatch.setattr(spatial, "_PRODUCTS", at_once)
    layer, gradient, x = problem(**KINDS[kind])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = found_by_kernel(layer, gradient, x)
    finally:
        torch.set_num_threads(before)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for mine, theirs in zip(found, reference(layer, gradient, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-11)


def test_products_take_no_more_memory_for_larger_images(monkeypatch):
    sizes, product = [], torch.mm
    monkeypatch.setattr(spatial, "_PRODUCTS", 2**16)
    monkeypatch.setattr(torch, "mm", lambda a, b, *, out: sizes.append(out.numel()) or product(a, b, out=out))
    for side in (12, 48):
        torch.manual_seed(0)
        layer = nn.Conv2d(16, 64, 3, padding=1).double().to(memory_format=torch.channels_last)
        x = by_position(torch.randn(2, 16, side, side, dtype=torch.float64))
        gradient = by_position(torch.randn(2, 64, side, side, dtype=torch.float64))
        for mine, theirs in zip(found_by_kernel(layer, gradient, x), reference(layer, gradient, x), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-10)
    assert max(sizes) <= 2**16
    assert sum(sizes) == 2 * (12**2 + 48**2) * 9 * 16  # each product once


@pytest.mark.parametrize("n_images", [0, 1])
def test_few_images(n_images):
    layer, gradient, x = problem(n_images, padding=1)
    for mine, theirs in zip(found_by_kernel(layer, gradient, x), reference(layer, gradient, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-11)


def test_what_is_not_a_number_stays_one():
    layer, gradient, x = problem(padding=1)
    gradient[1, 3, 2, 2] = torch.nan
    for mine, theirs in zip(found_by_kernel(layer, gradient, x), reference(layer, gradient, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-11, equal_nan=True)


def test_layers_and_tensors_that_the_kernel_does_not_know():
    known = nn.Conv2d(48, 64, 3)
    others = (nn.Conv2d(48, 64, 5), nn.Conv2d(44, 64, 3), nn.Conv2d(48, 32, 3), nn.Conv2d(128, 64, 3, groups=2))
    assert [spatial.takes(layout_of("layer", layer)) for layer in (known, *others)] == [True, *[False] * 4]
    assert not spatial.takes(layout_of("layer", nn.ConvTranspose2d(64, 64, 3)))
    assert not spatial.takes(layout_of("layer", known, block=2, block_spatial=True))
    (layer, gradient, x), matrix = problem(dtype=torch.float32), torch.zeros(9, 9)
    for other in (gradient.contiguous(), gradient.bfloat16(), gradient.double()):  # memory, precision, mixed precision
        assert spatial.gradients(layer, other, x, layer.weight, matrix, True) is None
    assert spatial.gradients(layer, gradient[0], x[0], layer.weight, matrix, True) is None


def wrapped(spread, **options):
    """Two layers whose atoms have moved by ``spread``, or (None) to zero; the second needs its input's gradient."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 48, 3), nn.Conv2d(48, 64, 3, padding=1, stride=2))
    options = {"solver": "pca", "target_modules": ".*", **options}
    model = get_peft_model(network, FilterSubspaceConfig(**options)).to(memory_format=torch.channels_last)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias.requires_grad_()
    with torch.no_grad():
        for _, layer in tuned_layers(model):
            for name, atoms in layer.filtersub_atoms.items():  # principal atoms: V is the dictionary's transpose
                moved = -layer.filtersub_mapping[name].T if spread is None else spread * torch.randn_like(atoms)
                atoms.copy_(moved)
    return model, by_position(torch.randn(3, 16, 9, 8))


def trained_gradients(model, x):
    return torch.autograd.grad(model(x).square().sum(), [p for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize(
    ("taken", "spread", "options"),
    [
        (True, 0.1, {}),
        (True, 0.0, {"recompute_weights": True}),
        (True, 0.1, {"expansion": 2}),
        (True, 1e4, {}),
        (False, None, {}),  # I + B is zero
        (False, torch.nan, {}),
        (False, 0.1, {"expansion": 2, "expansion_coefficients": "per-channel"}),
        (False, 0.1, {"solver": "lasso", "max_rounds": 2}),
    ],
)
def test_a_layer_with_linear_codes_takes_it(taken, spread, options, monkeypatch):
    model, x = wrapped(spread, **options)
    calls, run = [], spatial._input_gradient_and_moments
    monkeypatch.setattr(spatial, "_input_gradient_and_moments", lambda *a: calls.append(a) or run(*a))
    found = trained_gradients(model, x)
    assert len(calls) == taken
    monkeypatch.setattr(spatial, "gradients", lambda *_: None)
    for mine, theirs in zip(found, trained_gradients(model, x), strict=True):
        rounding = 1e-5 * float(theirs.nan_to_num().abs().max())
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=rounding, equal_nan=True)


def test_gradients_that_are_differentiated_again(monkeypatch):
    model, x = wrapped(0.1)
    trained = [p for n, p in model.named_parameters() if "atoms" in n]

    def second():
        first = torch.autograd.grad(model(x).square().sum(), trained, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), trained)

    found = second()
    monkeypatch.setattr(spatial, "gradients", lambda *_: None)
    for mine, theirs in zip(found, second(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
