"""Frozen convolutions and batch norms give torch's numbers and gradients, without their inputs kept."""

from contextlib import nullcontext

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame, ScaledStdConv2d
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

from filtersub.training import TrainingConfig, fit, loop, needed_activations

TORCHS = functional.batch_norm, functional.conv2d
#: of a product of two numbers, the second of them itself rounded twice
ROUNDING = {t: 4 * torch.finfo(t).eps for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
#: of the images, and of the layer: the last two are mixed precision
DTYPES = [*((dtype, dtype) for dtype in ROUNDING), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)]


def drawn(norm):
    """The layer with statistics and weights that are not those it starts with, standing still."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.data.copy_(values + 0.5 if name in ("weight", "running_var") else 4 * values - 2)
    return norm.requires_grad_(False).eval()


def output_and_gradient(norm, images, mode):
    images = images.clone().requires_grad_()
    with mode:
        found = norm(images)
    (gradient,) = torch.autograd.grad((found * torch.arange(found.numel()).view_as(found).cos()).sum(), images)
    return found.detach(), gradient


NORMS = {
    "of images": (lambda: nn.BatchNorm2d(5, eps=0.1), (4, 5, 6, 7)),
    "of rows": (lambda: nn.BatchNorm1d(5), (9, 5)),
    "of signals": (lambda: nn.BatchNorm1d(5), (3, 5, 8)),
    "of volumes": (lambda: nn.BatchNorm3d(5), (2, 5, 3, 4, 2)),
    "without weights": (lambda: nn.BatchNorm2d(5, affine=False), (4, 5, 6, 7)),
    "timm's with an activation": (lambda: BatchNormAct2d(5), (4, 5, 6, 7)),
    "of no image": (lambda: nn.BatchNorm2d(5), (0, 5, 6, 7)),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(("dtype", "own_dtype"), DTYPES)
def test_outputs_are_those_of_torch_and_gradients_too(kind, dtype, own_dtype):
    make, shape = NORMS[kind]
    norm, images = drawn(make().to(own_dtype)), torch.randn(shape, dtype=dtype)
    for order in (torch.contiguous_format, torch.channels_last):
        images = images.contiguous(memory_format=order) if images.ndim == 4 else images
        (output, gradient), expected = (
            output_and_gradient(norm, images, mode) for mode in (needed_activations(), nullcontext())
        )
        assert torch.equal(output, expected[0])
        torch.testing.assert_close(gradient, expected[1], rtol=ROUNDING[dtype], atol=0)
        assert (output.dtype, output.stride()) == (expected[0].dtype, expected[0].stride())


def test_gradients_that_are_one_number_everywhere_are_right():
    """What a mean over pixels sends back takes no memory of its own."""
    norm, images = drawn(nn.BatchNorm2d(5)), torch.randn(4, 5, 6, 7)
    gradients = []
    for mode in (needed_activations(), nullcontext()):
        asked = images.clone().requires_grad_()
        with mode:
            gradients.append(torch.autograd.grad(norm(asked).mean(), asked)[0])
    torch.testing.assert_close(*gradients, rtol=ROUNDING[torch.float32], atol=0)


CONVOLUTIONS = {
    "of images": (lambda: nn.Conv2d(4, 6, 3), (2, 4, 9, 8)),
    "with strides, padding and dilation": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 0), (1, 2)), (2, 4, 9, 8)),
    "by channel": (lambda: nn.Conv2d(4, 8, 5, padding=2, groups=4, bias=False), (2, 4, 9, 8)),
    "of pixels": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 9, 8)),
    "around a torus": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9, 8)),
    "padded by name": (lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 9, 8)),
    "padded as TensorFlow does": (lambda: Conv2dSame(4, 6, 3, stride=2), (2, 4, 9, 8)),
    "of one image": (lambda: nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "of no image": (lambda: nn.Conv2d(4, 6, 3), (0, 4, 9, 8)),
    "of signals": (lambda: nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
    "of volumes": (lambda: nn.Conv3d(4, 6, 2, groups=2), (2, 4, 3, 5, 4)),
    "standardised": (lambda: ScaledStdConv2d(4, 6, 3), (2, 4, 9, 8)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, "mixed"])
def test_frozen_convolutions_are_those_of_torch(kind, dtype):
    """Outputs and gradients to the bit, in either order in memory."""
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[kind]
    own = torch.float32 if dtype == "mixed" else dtype
    layer, images = make().to(own).requires_grad_(False), torch.randn(shape, dtype=own)
    for order in (torch.contiguous_format, torch.channels_last):
        images = images.contiguous(memory_format=order) if images.ndim == 4 else images
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "mixed"):
            (output, gradient), expected = (
                output_and_gradient(layer, images, mode) for mode in (needed_activations(), nullcontext())
            )
        assert torch.equal(output, expected[0])
        assert torch.equal(gradient, expected[1])
        assert (output.dtype, output.stride()) == (expected[0].dtype, expected[0].stride())


def test_convolutions_that_train_are_torchs():
    gradients = []
    for mode in (needed_activations(), nullcontext()):
        torch.manual_seed(0)
        layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8, requires_grad=True)
        with mode:
            layer(images).square().sum().backward()
        gradients.append((layer.weight.grad, layer.bias.grad, images.grad))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", [kind for kind, (make, _) in CONVOLUTIONS.items() if make().bias is not None])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("create_graph", [True, False])
def test_biases_that_train_alone_have_torchs_gradients(kind, first, create_graph):
    """For them torch computes the weight's gradient, too, and drops it; no input is kept here."""
    make, shape = CONVOLUTIONS[kind]
    gradients = []
    for mode in (needed_activations(), nullcontext()):
        torch.manual_seed(0)
        layer, images = make().double().requires_grad_(False), torch.randn(shape, dtype=torch.float64)
        wanted = [layer.bias.requires_grad_(), *([] if first else [images.requires_grad_()])]
        with mode:
            output = layer(images)
            found = torch.autograd.grad(output.pow(3).sum(), wanted, create_graph=create_graph)
            if create_graph:
                found = torch.autograd.grad(sum(each.pow(2).sum() for each in found), wanted)
        gradients.append([output.detach(), *found])
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)
    assert torch.equal(gradients[0][0], gradients[1][0])
    if not first and not create_graph:  # of the images
        assert torch.equal(gradients[0][2], gradients[1][2])


def test_a_bias_that_trains_alone_has_no_weight_gradient_computed(monkeypatch):
    asked, given = [], torch.ops.aten.convolution_backward
    monkeypatch.setattr(
        torch.ops.aten, "convolution_backward", lambda *a: asked.append(a[-1]) or given(*a), raising=False
    )
    layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8, requires_grad=True)
    layer.weight.requires_grad_(False)
    with needed_activations():
        layer(images).square().sum().backward()
    assert asked == [[True, False, False]]


def kept_for_backward(layers, mode):
    """Of each layer, whether the backward pass keeps its output."""
    kept, outputs = set(), []

    def pack(tensor):
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    handles = [layer.register_forward_hook(lambda _, __, output: outputs.append(output)) for layer in layers]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), mode:
        layers(torch.randn(2, 3, 8, 8, requires_grad=True))
    for handle in handles:
        handle.remove()
    return [output.untyped_storage().data_ptr() in kept for output in outputs]


@pytest.mark.parametrize("precision", [nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_no_gradient_needs_is_not_kept(precision):
    """The sigmoid keeps what it puts out, and a convolution that trains what comes in."""
    frozen = nn.Conv2d(3, 4, 3).requires_grad_(False), drawn(nn.BatchNorm2d(4)), nn.Upsample(scale_factor=2)
    layers = nn.Sequential(*frozen, nn.Conv2d(4, 4, 1).requires_grad_(False), nn.Sigmoid())
    with precision():
        assert kept_for_backward(layers, needed_activations()) == [False, False, False, False, True]
        assert kept_for_backward(layers, nullcontext())[0]
        layers[3].requires_grad_(True)
        assert kept_for_backward(layers, needed_activations())[2:] == [True, False, True]


def test_trained_weights_and_moving_statistics_are_torchs():
    images = torch.randn(4, 5, 6, 7)
    for trained, moving in ((True, False), (False, True), (True, True)):
        own, torchs = (drawn(nn.BatchNorm2d(5)).requires_grad_(trained).train(moving) for _ in range(2))
        for norm, mode in ((own, needed_activations()), (torchs, nullcontext())):
            with mode:
                output = norm(images.clone().requires_grad_())
            output.square().sum().backward()
        for (name, found), (_, expected) in zip(own.state_dict().items(), torchs.state_dict().items(), strict=True):
            assert torch.equal(found, expected), name
        assert not trained or torch.equal(own.weight.grad, torchs.weight.grad)


@pytest.mark.parametrize("statistics", [(None, None), (torch.zeros(1), torch.ones(1)), (torch.zeros(5), None)])
def test_what_torch_refuses_is_refused_in_its_words(statistics):
    said = []
    for mode in (needed_activations(), nullcontext()):
        with pytest.raises((RuntimeError, TypeError)) as error, mode:
            functional.batch_norm(torch.randn(4, 5, 6, 7), *statistics)
        said.append(str(error.value))
    assert said[0] == said[1]


class Recomputed(nn.Module):
    """A network that computes its body again in the backward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), drawn(nn.BatchNorm2d(8)), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        return self.head(checkpoint(self.body, images, use_reentrant=False).flatten(1))


@pytest.mark.parametrize("batch_norm", ["frozen", "adapted"])
def test_training_moves_weights_as_with_torchs(batch_norm, monkeypatch):
    pictures, labels = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3
    images = TensorDataset(pictures + labels[:, None, None, None], labels)
    found = []
    for within in (needed_activations, nullcontext):
        monkeypatch.setattr(loop, "needed_activations", within)
        model = Recomputed()
        fit(model, images, images, 3, TrainingConfig(epochs=2, batch_size=10, batch_norm=batch_norm))
        found.append(model.state_dict())
    torch.testing.assert_close(*found)
    assert (functional.batch_norm, functional.conv2d) == TORCHS


@pytest.mark.parametrize(("compiled", "expected"), [("no", {True}), ("eager", {False})])
def test_training_uses_it(compiled, expected):
    """And judging, where batch norms are folded; not a compiled network, which is planned as a whole."""
    images, seen = TensorDataset(torch.randn(40, 3, 8, 8), torch.arange(40) % 3), set()
    model = Recomputed()
    model.head.register_forward_hook(
        lambda *_: seen.add((functional.batch_norm, functional.conv2d) != TORCHS), always_call=False
    )
    fit(model, images, images, 3, TrainingConfig(epochs=1, batch_size=10, batch_norm="frozen", compile=compiled))
    assert seen == expected


def body():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), drawn(nn.BatchNorm2d(6)), nn.Tanh()).requires_grad_(False).double()


def test_gradients_of_gradients_are_those_of_torch():
    for layers in (body(), nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.SiLU()).requires_grad_(False).double()):
        images = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
        with needed_activations():
            assert torch.autograd.gradgradcheck(layers, images)
        found = []
        for mode in (needed_activations(), nullcontext()):
            with mode:
                (gradient,) = torch.autograd.grad(layers(images).square().sum(), images, create_graph=True)
                found.append(torch.autograd.grad(gradient.square().sum(), images)[0])
        torch.testing.assert_close(*found)


def forward_gradient(layers, images):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layers(forward_ad.make_dual(images, images.detach()))).tangent


class Functions(nn.Module):
    """Calls the functions themselves, with buffers."""

    def __init__(self):
        super().__init__()
        own = {"weight": torch.randn(6, 4, 3, 3), "mean": torch.randn(6), "variance": torch.rand(6) + 1}
        for name, tensor in own.items():
            self.register_buffer(name, tensor.double())

    def forward(self, images):
        return functional.batch_norm(functional.conv2d(images, self.weight), self.mean, self.variance)


def with_own_type(layers, images):
    class Own(torch.Tensor):
        pass

    found = layers(images.as_subclass(Own))
    assert type(found) is Own
    return found.as_subclass(torch.Tensor)


OTHER_WAYS = {
    "torch.func.vjp": lambda layers, images: torch.func.vjp(layers, images)[1](torch.ones(2, 6, 4, 3).double())[0],
    "torch.func.jacrev": lambda layers, images: torch.func.jacrev(lambda x: layers(x).mean((0, 2, 3)))(images),
    "torch.func.hessian": lambda layers, images: torch.func.hessian(lambda x: layers(x).sum())(images[:1]),
    "torch.vmap": lambda layers, images: torch.vmap(layers)(images[None]),
    "vectorised": lambda layers, images: torch.autograd.functional.jacobian(
        lambda x: layers(x).mean((0, 2, 3)), images, vectorize=True
    ),
    "forward mode": forward_gradient,
    "traced": lambda layers, images: torch.jit.trace(layers, images)(images),
    "traced symbolically": lambda layers, images: torch.fx.symbolic_trace(layers)(images),
    "exported": lambda layers, images: torch.export.export(layers, (images,)).module()(images),
    "of a subclass": with_own_type,
    "complex": lambda layers, images: torch.autograd.grad(
        functional.conv2d(torch.complex(images, images), images.detach()[:, :, :2, :2] + 0j).abs().sum(), images
    )[0],
}


@pytest.mark.parametrize("way", OTHER_WAYS)
@pytest.mark.parametrize("make", [body, Functions])
def test_other_ways_to_run_a_network_are_as_without(make, way):
    layers, found = make(), []
    images = torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for mode in (needed_activations(), nullcontext()):
        with mode:
            found.append(OTHER_WAYS[way](layers, images).detach())
    torch.testing.assert_close(*found)


def test_tensors_without_numbers_have_shapes_and_gradients():
    images, layers = torch.empty(2, 4, 6, 5, device="meta", requires_grad=True), body().float().to("meta")
    with needed_activations():
        layers(images).sum().backward()
    assert images.grad.shape == images.shape


def test_complex_numbers_stay_complex_in_mixed_precision():
    images, weight = torch.randn(2, 4, 6, 5, dtype=torch.complex64), torch.randn(6, 4, 3, 3, dtype=torch.complex64)
    with torch.autocast("cpu", torch.bfloat16), needed_activations():
        found = functional.conv2d(images.clone().requires_grad_(), weight)
    torch.testing.assert_close(found.detach(), functional.conv2d(images, weight))


def test_functions_that_another_library_has_replaced_are_called_and_stay(monkeypatch):
    calls = []

    def counted(*given, **options):
        calls.append(given)
        return TORCHS[1](*given, **options)

    images = torch.randn(2, 4, 6, 5, requires_grad=True)
    for around in (True, False):
        if around:
            monkeypatch.setattr(functional, "conv2d", counted)
        with needed_activations():
            monkeypatch.setattr(functional, "conv2d", counted)
            nn.Conv2d(4, 6, 3)(images)
        assert functional.conv2d is counted
        monkeypatch.setattr(functional, "conv2d", TORCHS[1])
    assert len(calls) == 2


def test_torchs_is_back_whatever_happens_and_whoever_leaves_last():
    with pytest.raises(ValueError, match="amid"), needed_activations():
        raise ValueError("amid")
    assert (functional.batch_norm, functional.conv2d) == TORCHS
    first, second = needed_activations(), needed_activations()  # as two threads have it
    norm, images = drawn(nn.BatchNorm2d(5)), torch.randn(4, 5, 6, 7)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert functional.batch_norm is not TORCHS[0]
    assert functional.conv2d is not TORCHS[1]
    moving = norm(images), nn.BatchNorm2d(5)(images)  # the second is torch's own
    second.__exit__(None, None, None)
    assert (functional.batch_norm, functional.conv2d) == TORCHS
    assert torch.equal(moving[0], norm(images))
    torch.testing.assert_close(moving, (norm(images), nn.BatchNorm2d(5)(images)))
