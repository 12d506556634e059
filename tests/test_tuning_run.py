"""The written-out backward pass of a summed weight, kept or made again: autograd's gradients, less kept."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from filtersub.engine.conv import depthwise
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer, weight_sum
from filtersub.tuning import layer as layer_module
from filtersub.tuning import model as model_module

LAYERS = {
    "plain conv2d": (nn.Conv2d(16, 8, 3, stride=2, padding=1), (2, 16, 6, 6)),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
    "conv2d": (nn.Conv2d(16, 8, 3, padding=1, dilation=2), (2, 16, 6, 6)),
    "unbatched": (nn.Conv2d(16, 8, 3, padding=(1, 0)), (16, 6, 6)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4, bias=False), (2, 8, 7, 7)),
    "conv3d": (nn.Conv3d(2, 4, (2, 3, 3)), (1, 2, 3, 5, 5)),
    "pointwise": (nn.Conv2d(16, 8, 1, stride=2), (2, 16, 4, 4)),
    "linear": (nn.Linear(16, 8), (3, 5, 16)),
}
MODES = {
    "sparse": {"max_rounds": 2, "atoms": 9},
    "linear codes": {"solver": "pca"},
    "expanded": {"solver": "pca", "expansion": 2, "expansion_coefficients": "per-channel"},
}


def wrapped(layer, **options):
    options = {"atoms": 3, "block": 2, "target_modules": ".*", **options}
    model = get_peft_model(nn.Sequential(layer), FilterSubspaceConfig(**options))
    with torch.no_grad():
        for i, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(i))
    return model


def gradients(model, x, autocast=False):
    x = x.clone().requires_grad_()
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    return out, torch.autograd.grad(out.float().square().sum() if autocast else out.square().sum(), [x, *trained])


def assert_sums_agree(mine, theirs):
    """Sums in other orders: they differ by a share of their summands, which may be larger than they are themselves."""
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradients_are_those_of_autograd(kind, mode, autocast, recompute, monkeypatch):
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]
    model, x = wrapped(layer, recompute_weights=recompute, **MODES[mode]), torch.randn(shape)
    if layer.bias is not None:
        layer.bias.requires_grad_()
    calls = []
    run = layer_module.run_summed
    monkeypatch.setattr(layer_module, "run_summed", lambda *a, **options: calls.append(options) or run(*a, **options))
    out, found = gradients(model, x, autocast)
    assert calls == [{"recompute": recompute, "norm": None}]
    monkeypatch.setattr(layer_module, "can_run", lambda *a: False)
    expected_out, expected = gradients(model, x, autocast)
    assert len(calls) == 1
    assert out.dtype == expected_out.dtype
    assert torch.equal(out, expected_out)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert_sums_agree(mine, theirs)


#: of an output so small that the weight's gradient is one product, and of one for which torch's own is taken
SLICED = {
    "late": (nn.Conv2d(64, 256, 3, stride=2, padding=(1, 2), dilation=(2, 1)), (2, 64, 6, 4)),
    "early": (nn.Conv2d(64, 256, 3, padding=1), (2, 64, 9, 9)),
    "grouped": (nn.Conv2d(128, 256, 3, padding=1, groups=2), (1, 128, 3, 3)),
    "conv1d": (nn.Conv1d(256, 260, 3), (1, 256, 5)),
}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mode", ["random", "linear codes", "expanded"])
@pytest.mark.parametrize("kind", SLICED)
def test_kernels_in_blocks_are_summed_some_output_channels_at_a_time(kind, mode, memory_format, monkeypatch):
    """The 256 output channels are more than one slice, and the last slice is a smaller one."""
    torch.manual_seed(0)
    layer, shape = SLICED[kind]
    options = {**MODES.get(mode, {"solver": mode, "atoms": 9}), "block": 4, "block_spatial": True}
    model, x = wrapped(layer, **options), torch.randn(shape)
    if len(shape) == 4:
        model, x = model.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    late, slices = weight_sum.late_gradient, weight_sum._slices
    formed, sizes = [], []
    monkeypatch.setattr(weight_sum, "_SLICE", 2**17)
    monkeypatch.setattr(layer_module, "takes_two_steps", lambda *a: False)
    monkeypatch.setattr(weight_sum, "late_gradient", lambda *a: formed.append(late(*a)) or formed[-1])
    monkeypatch.setattr(weight_sum, "_slices", lambda layout: sizes.append(list(slices(layout))) or sizes[-1])
    out, found = gradients(model, x)
    if mode != "expanded":  # whose atoms are one set for each input channel
        assert [is_formed is not None for is_formed in formed] == [kind == "late"]
        assert [len(each) for each in sizes] == [2, 2]  # one sum, one gradient
        assert sum(layout.shape[0] for _, layout in sizes[0]) == layer.out_channels
    monkeypatch.setattr(layer_module, "can_run", lambda *a: False)
    expected_out, expected = gradients(model, x)
    assert len(formed) == 1
    for mine, theirs in zip((out.detach(), *found), (expected_out.detach(), *expected), strict=True):
        assert_sums_agree(mine, theirs)


#: few positions of the output for blocks of so many entries
TWO_STEPS = {
    "square": (nn.Conv2d(8, 12, 3, padding=1), (2, 8, 3, 2)),
    "strided": (nn.Conv2d(16, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False), (1, 16, 5, 4)),
}


@pytest.mark.parametrize("kind", TWO_STEPS)
def test_few_positions_are_run_in_two_steps(kind, monkeypatch):
    torch.manual_seed(0)
    layer, shape = TWO_STEPS[kind]
    model, x = wrapped(layer, solver="pca", block=4, block_spatial=True, atoms=9).double(), torch.randn(shape).double()
    if layer.bias is not None:
        layer.bias.requires_grad_()
    run, calls = layer_module.run_two_steps, []
    monkeypatch.setattr(layer_module, "run_two_steps", lambda *a: calls.append(1) or run(*a))
    out, found = gradients(model, x)
    trained = [p for p in model.parameters() if p.requires_grad]
    (first,) = torch.autograd.grad(model(x).square().sum(), trained[:1], create_graph=True)
    second = torch.autograd.grad(first.square().sum(), trained)
    assert len(calls) == 2
    monkeypatch.setattr(layer_module, "takes_two_steps", lambda *a: False)
    expected_out, expected = gradients(model, x)
    (first,) = torch.autograd.grad(model(x).square().sum(), trained[:1], create_graph=True)
    expected_second = torch.autograd.grad(first.square().sum(), trained)
    assert len(calls) == 2
    assert len(found) == 2 + (layer.bias is not None)
    for mine, theirs in zip((out, *found, *second), (expected_out, *expected, *expected_second), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [3, 9])
def test_no_images_give_no_outputs_and_wrong_ones_torchs_own_words(size):
    model = wrapped(nn.Conv2d(64, 256, 3, padding=1), solver="pca", block=4, block_spatial=True, atoms=9)
    out, found = gradients(model, torch.randn(0, 64, size, size))
    assert out.shape == (0, 256, size, size)
    assert all(float(each.abs().sum()) == 0 for each in found)
    with pytest.raises(RuntimeError, match="to have 64 channels, but got 32 channels instead"):
        model(torch.randn(1, 32, size, size))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [*MODES.values(), {"solver": "pca", "block": 1}])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 16, 5, padding=2, groups=16),
        nn.Conv2d(16, 32, 1),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.Conv2d(16, 16, (1, 3), padding=(0, 1)),
    ],
)
def test_a_layer_runs_with_the_strides_of_its_base_weight(layer, order, options, training, monkeypatch):
    """Also those of sides of length 1: by them torch 2.14.1 chooses how to convolve, and takes 80 times as long for
    5 x 5 depthwise kernels on images of one pixel where they are others than those of channels last."""
    model = wrapped(layer, **{**options, "block": None if layer.groups > 1 else options.get("block", 1)})
    model = model.to(memory_format=order)
    base = next(module for module in model.modules() if type(module) is nn.Conv2d)
    seen, convolve = [], nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda *a: seen.append(a[2].stride()) or convolve(*a))
    with torch.set_grad_enabled(training):
        model(torch.randn(2, layer.in_channels, 1, 1).contiguous(memory_format=order))
    assert seen == [base.weight.stride()]


@pytest.mark.parametrize("mode", MODES)
def test_the_gradients_by_the_depthwise_kernel_are_those_of_autograd(mode, monkeypatch):
    torch.manual_seed(0)
    layer, shape = nn.Conv2d(16, 16, 5, padding=2, groups=16), (5, 16, 7, 7)
    model = wrapped(layer, **MODES[mode]).to(memory_format=torch.channels_last)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    layer.bias.requires_grad_()
    found_by_kernel, kernel = [], depthwise.weight_gradient

    def spy(*arguments):
        found_by_kernel.append(kernel(*arguments))
        return found_by_kernel[-1]

    monkeypatch.setattr(depthwise, "weight_gradient", spy)
    out, found = gradients(model, x)
    assert found_by_kernel[0] is not None
    monkeypatch.setattr(layer_module, "can_run", lambda *a: False)
    expected_out, expected = gradients(model, x)
    assert len(found_by_kernel) == 1
    assert torch.equal(out, expected_out)
    for mine, theirs in zip(found, expected, strict=True):
        assert_sums_agree(mine, theirs)


def test_layers_it_does_not_know_run_as_before():
    hooked = nn.Conv2d(4, 4, 3)
    seen = []
    hooked.register_forward_hook(lambda module, args, out: seen.append(out))
    model = wrapped(hooked)
    model(torch.randn(1, 4, 5, 5)).sum().backward()
    assert len(seen) == 1
    reflecting = wrapped(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    trained = wrapped(nn.Conv2d(4, 4, 3))
    layer = next(m for m in trained.modules() if isinstance(m, FilterSubspaceLayer))
    layer.base_layer.weight.requires_grad_()
    for each in (reflecting, trained):
        each(torch.randn(1, 4, 5, 5)).sum().backward()
    assert layer.base_layer.weight.grad.abs().sum() > 0


def test_atoms_changed_before_the_backward_pass_are_noticed():
    model = wrapped(nn.Conv2d(16, 8, 1), **MODES["sparse"])
    loss = model(torch.randn(1, 16, 4, 4)).sum()
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def kept_bytes(model, x):
    """Bytes that autograd keeps beside what the model holds, and the loss."""
    held = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(x).square().sum()
    size = sum(kept.values())
    seen, totals = [loss.grad_fn], 0
    while seen:  # what nodes keep beside autograd's keeper
        node = seen.pop()
        if node is not None:
            total = getattr(node, "total", None)
            totals += 0 if total is None else total.nbytes
            seen += [parent for parent, _ in node.next_functions]
    loss.backward()
    return size + totals


def test_large_models_make_their_weights_again_unless_told(monkeypatch):
    def recomputes(**options):
        model = wrapped(nn.Conv2d(16, 8, 3), solver="pca", **options)
        return next(m for m in model.modules() if isinstance(m, FilterSubspaceLayer)).recomputes

    size = 16 * 8 * 9 * 4
    for most, expected in ((size, False), (size - 1, True)):
        monkeypatch.setattr(model_module, "_MOST_KEPT", most)
        assert recomputes() is expected
        assert recomputes(recompute_weights=True) is True
        assert recomputes(recompute_weights=False) is False


SETTINGS = {
    "setting 1": {"max_rounds": 2},
    "setting 2": {"max_rounds": 2, "expansion": 3},
    "setting 3": {"max_rounds": 2, "block": 4},
    "setting 4": {"max_rounds": 2, "block": 4, "expansion": 3},
    "setting 3, linear codes": {"solver": "pca", "block": 4},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_training_takes_less_memory_than_full_tuning(setting, recompute):
    """Activations are the same; beside them this keeps small matrices, and full tuning gradients and Adam's moments."""
    torch.manual_seed(0)
    wide = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 64, 1)]
    network, x = nn.Sequential(*wide), torch.randn(1, 64, 6, 6)
    full = kept_bytes(network, x)
    weights = sum(p.nbytes for p in network.parameters())
    full += 3 * weights  # a gradient and two moments
    options = {"atoms": 9, "block": None, "recompute_weights": recompute, **SETTINGS[setting]}
    model = wrapped(network, **options)
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    ours = kept_bytes(model, x)
    activations = full - 3 * weights
    assert ours <= activations + 4 * trained + (0 if recompute else weights)
    held = sum(b.nbytes for b in model.buffers())
    assert ours + 4 * trained + held < full


TWICE = {
    "spatial": (lambda: nn.Conv2d(4, 8, 3, padding=1), {}),
    "spatial, channels last": (lambda: nn.Conv2d(16, 16, 3, padding=1).to(memory_format=torch.channels_last), {}),
    "one dimension": (lambda: nn.Conv1d(4, 8, 3), {}),
    "depthwise, large": (lambda: nn.Conv2d(16, 16, 5, groups=16).to(memory_format=torch.channels_last), {}),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3), {}),
    "circular": (lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"), {}),
    "1 x 1, packed": (lambda: nn.Conv2d(4, 8, 1), {"block": 4, "solver": "lasso", "l1_penalty": 0.1}),
    "1 x 1, kernels as source": (lambda: nn.Conv2d(4, 8, 1), {"block": 2}),
    "linear, packed": (lambda: nn.Linear(8, 12), {"block": 4, "solver": "lasso", "l1_penalty": 0.1}),
    "linear, kernels as source": (lambda: nn.Linear(8, 12), {"block": 4}),
    "expanded": (lambda: nn.Conv2d(4, 8, 3), {"expansion": 2}),
    "coefficients too": (lambda: nn.Conv2d(4, 8, 3), {"train_coefficients": True}),
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("recompute", [False, True])
def test_second_derivatives_are_those_of_differences(kind, recompute):
    """d/dp of ||d loss / dx||^2, against central differences, in all that is trained and in x."""
    torch.manual_seed(0)
    make, options = TWICE[kind]
    layer = make().double()
    options = {"atoms": 3, "solver": "pca", "recompute_weights": recompute, **options}
    config = FilterSubspaceConfig(target_modules=["0"], **options)
    tuned = get_peft_model(nn.Sequential(layer, nn.Tanh()), config, autocast_adapter_dtype=False)
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    for parameter in trained:
        nn.init.normal_(parameter, std=0.3)
    dimensions = {nn.Linear: (3, 8), nn.Conv1d: (2, 4, 8)}.get(type(layer), (2, getattr(layer, "in_channels", 0), 8, 8))
    x = torch.randn(dimensions, dtype=torch.float64)
    if layer.weight.ndim == 4:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()

    def slope(create_graph):
        (found,) = torch.autograd.grad(tuned(x).square().sum(), x, create_graph=create_graph)
        return found.square().sum()

    exact = torch.autograd.grad(slope(True), [x, *trained])
    for tensor, gradient in zip([x, *trained], exact, strict=True):
        direction, step = torch.randn_like(tensor), 1e-6
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(sign * step * direction)
            sides.append(float(slope(False)))
            with torch.no_grad():
                tensor.sub_(sign * step * direction)
        expected = (sides[0] - sides[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)
