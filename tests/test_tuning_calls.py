"""Calls of tuned layers that others take part in, or that are unusual: torch's outputs, gradients and words."""

import copy

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.func import functional_call
from torch.nn.modules import module as every_module

from filtersub.tuning import FilterSubspaceConfig
from filtersub.tuning import layer as layer_module

BLOCKS = {"solver": "pca", "block": 4, "block_spatial": True, "atoms": 9}
#: one layer for each way in which a backward pass is written out
LAYERS = {
    "no weight gradient": (lambda: nn.Conv2d(16, 64, 3, padding=1), (2, 16, 5, 6), {"solver": "pca"}),
    "two steps": (lambda: nn.Conv2d(8, 12, 3, padding=1), (2, 8, 3, 2), BLOCKS),
    "slices": (lambda: nn.Conv2d(8, 12, 3, padding=1), (2, 8, 9, 9), BLOCKS),
    "late": (lambda: nn.Conv2d(16, 128, 3), (1, 16, 5, 5), {**BLOCKS, "solver": "random"}),
    "depthwise": (lambda: nn.Conv2d(16, 16, 5, padding=2, groups=16), (2, 16, 6, 6), {"solver": "pca"}),
    "1 x 1 in blocks": (lambda: nn.Conv2d(8, 8, 1), (2, 8, 5, 5), {"solver": "pca", "block": 4}),
    "linear, packed": (lambda: nn.Linear(16, 16), (3, 16), {"block": 4, "l1_penalty": 0.1}),
}
CONVOLUTIONS = [kind for kind in LAYERS if not kind.startswith("linear")]


def build(kind):
    """(tuned layer, its atoms, x): in channels-last memory where that is what its backward pass is written for."""
    torch.manual_seed(0)
    make, shape, options = LAYERS[kind]
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    if kind in ("no weight gradient", "depthwise"):
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    config = FilterSubspaceConfig(target_modules=["0"], **options)
    tuned = get_peft_model(nn.Sequential(layer), config).base_model.model[0].double()
    atoms = tuned.filtersub_atoms["default"]
    nn.init.normal_(atoms, std=0.3)
    return tuned, atoms, x.requires_grad_()


def plainly(tuned, atoms, x):
    """``layer(x)`` with ``F + alpha x dD``, written out."""
    base, codes = tuned.get_base_layer(), tuned.coefficients("default").detach()
    weight = base.weight.detach() + tuned.layouts["default"].to_weight(codes @ atoms)
    return functional_call(base, {"weight": weight}, x)


def ours(tuned, atoms, x):
    return tuned(x)


def agree(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.detach().abs().max()))


def of_both(kind, work):
    """What ``work(run, tuned, atoms, x)`` finds with the tuned layer agrees with what it finds with a plain sum."""
    tuned, atoms, x = build(kind)
    agree(work(ours, tuned, atoms, x), work(plainly, tuned, atoms, x))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_many_gradients_at_once(kind, again):
    """As torch.autograd.functional.jacobian asks for with vectorize."""

    def work(run, tuned, atoms, x):
        out = run(tuned, atoms, x)
        probes = torch.linspace(-1, 1, 3 * out.numel(), dtype=out.dtype).reshape(3, *out.shape)
        found = torch.autograd.grad(out.sin(), [x, atoms], probes, is_grads_batched=True, create_graph=again)
        return torch.autograd.grad(sum(each.square().sum() for each in found), [x, atoms]) if again else found

    of_both(kind, work)


@pytest.mark.parametrize("kind", LAYERS)
def test_hooks_of_tensors_run_once(kind):
    def work(run, tuned, atoms, x):
        given, handle = x * 1, atoms.register_hook(lambda gradient: 3 * gradient)
        given.register_hook(lambda gradient: 2 * gradient)
        first = torch.autograd.grad(run(tuned, atoms, given).sin().sum(), [x, atoms], create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), [x, atoms])
        handle.remove()
        return *first, *second

    of_both(kind, work)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_settings_of_a_layer_that_change_before_its_backward_pass(kind):
    """Autograd keeps those of the call."""

    def work(run, tuned, atoms, x):
        base = tuned.get_base_layer()
        before, out = base.stride, run(tuned, atoms, x).sin().sum()
        base.stride = (2, 2)
        found = torch.autograd.grad(out, [x, atoms])
        base.stride = before
        return found

    of_both(kind, work)


@pytest.mark.parametrize("settings", [{"stride": 1, "padding": 1, "dilation": 1}, {"stride": [1, 2], "padding": (1,)}])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_settings_that_are_written_otherwise(kind, settings):
    """torch takes one number for all sides, and lists; code that dilates a network writes such into its layers."""

    def work(run, tuned, atoms, x):
        vars(tuned.get_base_layer()).update(settings)
        return torch.autograd.grad(run(tuned, atoms, x).sin().sum(), [x, atoms])

    of_both(kind, work)


@pytest.mark.parametrize(
    ("kind", "method"), [*((kind, "forward") for kind in LAYERS), *((kind, "_conv_forward") for kind in CONVOLUTIONS)]
)
def test_a_method_that_was_replaced_in_one_layer_is_called(kind, method):
    """accelerate replaces forward, code that tiles images _conv_forward."""
    tuned, atoms, x = build(kind)
    expected = torch.autograd.grad((2 * tuned(x)).sin().sum(), [x, atoms])
    base = tuned.get_base_layer()
    own = getattr(base, method)
    setattr(base, method, lambda *arguments: 2 * own(*arguments))
    with torch.no_grad():
        without = tuned(x)
    out = tuned(x)
    agree([out, *torch.autograd.grad(out.sin().sum(), [x, atoms])], [without, *expected])


@pytest.mark.parametrize("kind", LAYERS)
def test_hooks_on_every_module_see_the_base_layer(kind):
    tuned, atoms, x = build(kind)
    expected = torch.autograd.grad(tuned(x).sin().sum(), [x, atoms])
    for name in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        seen = []
        handle = getattr(every_module, f"register_module_{name}")(lambda module, *_, seen=seen: seen.append(module))
        try:
            found = torch.autograd.grad(tuned(x).sin().sum(), [x, atoms])
        finally:
            handle.remove()
        assert tuned.get_base_layer() in seen
        agree(found, expected)


@pytest.mark.parametrize("x", [None, [1.0]])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_no_tensor_is_told_in_torchs_words(kind, x):
    tuned, _, _ = build(kind)
    with pytest.raises(TypeError) as expected:
        copy.deepcopy(tuned.get_base_layer())(x)
    with pytest.raises(TypeError) as found:
        tuned(x)
    assert str(found.value).split("(")[0] == str(expected.value).split("(")[0]


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_shapes_alone_pass_a_layer_in_memory(kind):
    tuned, _, x = build(kind)
    out = tuned(x.detach().to("meta"))
    assert out.is_meta
    assert out.shape == tuned(x).shape


def test_each_layer_runs_in_the_way_it_is_named_after(monkeypatch):
    """Else these tests would compare torch with itself."""
    for kind in LAYERS:
        tuned, _, x = build(kind)
        name = "run_two_steps" if kind == "two steps" else "run_summed"
        calls, run = [], getattr(layer_module, name)
        monkeypatch.setattr(layer_module, name, lambda *a, calls=calls, run=run, **o: calls.append(1) or run(*a, **o))
        tuned(x)
        assert calls, kind
