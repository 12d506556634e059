"""Tucker updates against their formulas written out, counts against tensors, merged; the absent package is named."""

import copy
import sys

import pytest
import torch
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.methods import MethodOptions, inject, merged
from filtersub.methods.low_rank import TUCKER_METHODS, add_tucker_
from filtersub.parameters import BaselineOptions, count_parameters
from filtersub.parameters.baselines import LAYER_RULES

LAYERS = {
    "convolution": lambda: nn.Conv2d(12, 16, 3, padding=1),
    "not square": lambda: nn.Conv2d(12, 16, (1, 5)),
    "dilated, reflected": lambda: nn.Conv2d(12, 16, 3, dilation=2, padding=2, padding_mode="reflect"),
    "grouped": lambda: nn.Conv2d(12, 16, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(12, 12, 5, groups=12),
    "pointwise": lambda: nn.Conv2d(12, 16, 1),
    "one dimension": lambda: nn.Conv1d(12, 16, 3),
    "three dimensions": lambda: nn.Conv3d(12, 16, 2),
    "linear": lambda: nn.Linear(12, 16),
    "prime": lambda: nn.Linear(31, 37),
}


def needs_lycoris():
    pytest.importorskip("lycoris", reason="the extra filtersub[lycoris]")


def with_update(layer, method, rank, scale=0.5):
    model = nn.ModuleDict({"layer": copy.deepcopy(layer)}).requires_grad_(False)
    add_tucker_(model, ["layer"], method, rank, scale)
    return model


def moved(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model


def core_form(up, down, core, shape):
    """C[p, q, *k] up[o, p] down[q, i] summed by hand over p and q; without a core, plain matrices."""
    update = torch.zeros(shape, dtype=up.dtype)
    outs, ins = shape[:2]
    for o in range(outs):
        for i in range(ins):
            if core is None:
                update[o, i] = sum(up[o, p] * down[p, i] for p in range(up.shape[1]))
            else:
                ranks = range(core.shape[0])
                update[o, i] = sum(core[p, q] * up[o, p] * down[q, i] for p in ranks for q in ranks)
    return update


def written_out(method, update, shape):
    factors = {name: p.detach().double() for name, p in update.named_parameters()}
    if method == "tucker-lora":
        flat = {name: factors[name].flatten(1) for name in ("up", "down")}
        return core_form(flat["up"], flat["down"], factors.get("mid"), shape)
    if method == "tucker-loha":
        sides = []
        for n in "12":
            core = factors.get(f"t{n}")  # with a core LyCORIS keeps this factor transposed
            up = factors[f"w{n}u"] if core is None else factors[f"w{n}u"].T
            sides.append(core_form(up, factors[f"w{n}d"], core, shape))
        return sides[0] * sides[1]
    small, second = factors["w1"], factors.get("w2")
    inner = (shape[0] // small.shape[0], shape[1] // small.shape[1], *shape[2:])
    if second is None:
        core = factors.get("t2")
        up = factors["w2a"] if core is None else factors["w2a"].T
        second = core_form(up, factors["w2b"].flatten(1), core, inner)
    second = second.reshape(inner)
    update = torch.zeros(shape, dtype=small.dtype)
    for o in range(shape[0]):
        for i in range(shape[1]):
            a, b = divmod(o, inner[0])
            c, d = divmod(i, inner[1])
            update[o, i] = small[a, c] * second[b, d]
    return update


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_the_update_is_its_formula_and_its_count_that_of_the_factors(method, kind, rank):
    needs_lycoris()
    torch.manual_seed(0)
    plain = LAYERS[kind]().double()
    model = with_update(plain, method, rank)
    torch.testing.assert_close(model["layer"].weight, plain.weight)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    layout = layout_of("layer", plain, block=1)
    assert LAYER_RULES[method](layout, plain, BaselineOptions(rank=rank)) == trained
    (update,) = moved(model)["layer"].parametrizations.weight
    wanted = plain.weight.double() + 0.5 * written_out(method, update, tuple(plain.weight.shape))
    torch.testing.assert_close(model["layer"].weight, wanted, atol=1e-10, rtol=1e-10)
    model["layer"].weight.square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters() if p.requires_grad)
    merged(model, method)
    torch.testing.assert_close(model["layer"].weight, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_gradients_are_those_of_differences(method):
    """LyCORIS writes LoHa's backward pass out itself."""
    needs_lycoris()
    torch.manual_seed(0)
    model = moved(with_update(nn.Conv2d(6, 8, 3).double(), method, 1))
    (update,) = model["layer"].parametrizations.weight
    names, values = zip(*update.named_parameters(), strict=True)
    weight = torch.randn(8, 6, 3, 3, dtype=torch.float64)

    def updated(*factors):
        return torch.func.functional_call(update, dict(zip(names, factors, strict=True)), (weight,)).square().sum()

    assert torch.autograd.gradcheck(updated, values, fast_mode=True)


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_autocast_computes_the_update_in_the_weights_dtype(method):
    needs_lycoris()
    model = moved(with_update(nn.Conv2d(6, 8, 3), method, 2))
    with torch.autocast("cpu", torch.bfloat16):
        out = model["layer"](torch.randn(2, 6, 5, 5))
        assert model["layer"].weight.dtype == torch.float32
    out.float().square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_whole_models_on_shapes_alone(method):
    needs_lycoris()
    with torch.device("meta"):
        model = nn.Sequential(*(LAYERS[kind]() for kind in ("convolution", "pointwise", "linear")), nn.Linear(16, 3))
    counted = count_parameters(model, method, rank=2).trainable
    inject(model, method, "3", options=MethodOptions(rank=2))
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad and not name.startswith("3.")}
    assert sum(trained.values()) == counted > 0


@pytest.mark.parametrize("method", TUCKER_METHODS)
def test_the_missing_package_is_named_and_counting_does_without(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "lycoris.functional", None)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert count_parameters(model, method, rank=2).trainable > 0
    with pytest.raises(FiltersubError, match=r"lycoris-lora: pip install 'filtersub\[lycoris\]'"):
        inject(model, method, "2", options=MethodOptions(rank=2))
    assert all(p.requires_grad for p in model.parameters())
