"""What an adapter computes, against the paper's two-step form, autograd and plain sums."""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.functional import conv2d

from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer


class Conv1D(nn.Module):
    """As in transformers: a linear layer that stores its weight transposed."""

    def __init__(self, outs, ins):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(ins, outs)), nn.Parameter(torch.zeros(outs))

    def forward(self, x):
        return x @ self.weight + self.bias


LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
    "conv2d": (nn.Conv2d(8, 6, 3, padding=1), (2, 8, 6, 6)),
    "conv2d reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 6, 6)),
    "conv3d": (nn.Conv3d(2, 4, (2, 3, 3)), (1, 2, 3, 5, 5)),
    "pointwise": (nn.Conv2d(8, 4, 1, bias=False), (2, 8, 4, 4)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4, dilation=2), (2, 8, 7, 7)),
    "depthwise": (nn.Conv2d(6, 6, (5, 3), groups=6), (2, 6, 7, 7)),
    "transposed1d": (nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "transposed2d": (nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1, groups=2), (2, 8, 4, 4)),
    "transposed3d": (nn.ConvTranspose3d(2, 4, 2), (1, 2, 3, 3, 3)),
    "linear": (nn.Linear(8, 6), (3, 8)),
    "transformers Conv1D": (Conv1D(6, 8), (3, 8)),
}
RECIPES = {
    "atoms": {},
    "expanded": {"expansion": 3},
    "expanded per channel": {"expansion": 3, "expansion_coefficients": "per-channel"},
    "three levels": {"expansion": (2, 3), "expansion_coefficients": "per-channel"},
    "with coefficients": {"train_coefficients": True},
    "linear codes": {"hold_coefficients": False},
}


def wrapped(layer, *, moved=True, **options):
    """The tuner layer around a float64 layer, its trained parameters moved off zero."""
    options = {"atoms": 3, "block": 2, "block_spatial": True, "solver": "pca", "hold_coefficients": True, **options}
    model = get_peft_model(nn.Sequential(layer).double(), FilterSubspaceConfig(target_modules=["0"], **options))
    tuner = model.base_model.model[0]
    assert isinstance(tuner, FilterSubspaceLayer)
    if moved:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in tuner.parameters():
                if p.requires_grad:
                    p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return tuner


def delta_by_sums(tuner):
    """``alpha x dD (+ d-alpha x D)``, written out from the definitions, as a stored weight."""
    layout, alpha = tuner.layouts["default"], tuner.coefficients("default")
    m, d, inputs = alpha.shape[1], layout.patch_size, layout.input_channels
    levels = list(tuner.filtersub_expansion["default"]) if "default" in tuner.filtersub_expansion else []
    atoms = tuner.filtersub_atoms["default"]
    if len(levels) == 2:
        atoms = torch.einsum("ijk,ijkd->ijd", levels[1], atoms)
    if levels and levels[0].ndim == 3:
        atoms = torch.einsum("cij,ijd->cid", levels[0], atoms)
    elif levels:
        atoms = torch.einsum("ij,ijd->id", levels[0], atoms)
    atoms = atoms.expand(inputs, m, d)
    rows = torch.einsum("ocm,cmd->ocd", alpha.reshape(-1, inputs, m), atoms).reshape(-1, d)
    if "default" in tuner.filtersub_coefficients_update:
        moved = tuner.filtersub_coefficients_update["default"].transpose(1, 2).reshape(-1, m)
        rows = rows + moved @ tuner.filtersub_dictionary["default"]
    return layout.to_weight(rows)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_update_is_the_sum_of_its_definition(kind, recipe):
    layer, shape = LAYERS[kind]
    tuner = wrapped(layer, **RECIPES[recipe])
    expected = delta_by_sums(tuner)
    torch.testing.assert_close(tuner.get_delta_weight("default"), expected, atol=1e-12, rtol=1e-12)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    trained = [p for p in tuner.parameters() if p.requires_grad]
    out = torch.func.functional_call(tuner.base_layer, {"weight": tuner.base_layer.weight.detach() + expected}, x)
    assert torch.allclose(tuner(x), out, atol=1e-12)
    ours = torch.autograd.grad(tuner(x).sin().sum(), [x, *trained])
    theirs = torch.autograd.grad(out.sin().sum(), [x, *trained])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_gradcheck(recipe, channels_last):
    tuner = wrapped(nn.Conv2d(8, 2, 2), block=None, block_spatial=False, **RECIPES[recipe])
    if channels_last:
        tuner.to(memory_format=torch.channels_last)
    x = torch.randn(1, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, p in tuner.named_parameters() if p.requires_grad]
    values = [p.detach().clone().requires_grad_() for _, p in tuner.named_parameters() if p.requires_grad]

    def run(x, *values):
        return torch.func.functional_call(tuner, dict(zip(names, values, strict=True)), x)

    assert len(names) > (recipe not in ("atoms", "linear codes"))
    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 2, "dilation": 2},
        {"groups": 3, "padding": 1},
        {"groups": 6, "stride": 2},
    ],
    ids=str,
)
def test_two_steps_equal_one_convolution(options):
    """Equation 3: every channel with every atom, then a 1x1 convolution, equals one convolution; gradients too."""
    torch.manual_seed(0)
    groups, ins, outs, m = options.get("groups", 1), 6, 12, 5
    layer = nn.Conv2d(ins, outs, 3, bias=False, **options)
    tuner = wrapped(layer, block=None, block_spatial=False, atoms=m)
    atoms, alpha = tuner.filtersub_atoms["default"], tuner.coefficients("default")
    m = alpha.shape[1]
    images = torch.randn(2, ins, 11, 11, dtype=torch.float64)
    one_step = tuner(images)
    grad_one = torch.autograd.grad(one_step.square().sum(), atoms)[0]

    every_channel = {**options, "groups": ins}
    maps = conv2d(images, atoms.reshape(m, 1, 3, 3).repeat(ins, 1, 1, 1), **every_channel)  # (n, 6 * m, h, w)
    mixed = conv2d(maps, alpha.reshape(outs, ins // groups * m, 1, 1), groups=groups)
    two_step = conv2d(images, layer.weight, **options) + mixed
    torch.testing.assert_close(one_step, two_step, atol=1e-10, rtol=0)
    grad_two = torch.autograd.grad(two_step.square().sum(), atoms)[0]
    torch.testing.assert_close(grad_one, grad_two, atol=1e-8, rtol=1e-10)


@pytest.mark.parametrize("recipe", ["atoms", "expanded", "with coefficients", "linear codes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_start_is_bit_identical(recipe, dtype, channels_last):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 8, 1))
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(dtype).to(memory_format=memory_format)
    x = torch.randn(2, 16, 9, 9, dtype=dtype).to(memory_format=memory_format)
    options = {"solver": "pca", "hold_coefficients": True, **RECIPES[recipe]}
    with torch.no_grad():
        before = model(x)
        tuned = get_peft_model(model, FilterSubspaceConfig(target_modules=".*", atoms=5, block=2, **options))
        assert torch.equal(tuned(x), before)
        assert tuned(x).stride() == before.stride()


def test_what_is_trained_starts_as_the_paper_says():
    """d-alpha at every level below alpha Kaiming uniform (variance 2 / fan-in), the last atoms at zero, one seed."""
    layer = nn.Conv2d(64, 64, 3)
    options = {"atoms": 9, "block": None, "block_spatial": False, "expansion": (4, 6)}
    options["expansion_coefficients"] = "per-channel"
    tuner = wrapped(layer, moved=False, **options)
    first, second = tuner.filtersub_expansion["default"]
    assert first.shape == (64, 9, 4)
    assert second.shape == (9, 4, 6)
    assert tuner.filtersub_atoms["default"].shape == (9, 4, 6, 9)
    assert not tuner.filtersub_atoms["default"].any()
    for level, fan_in in ((first, 4), (second, 6)):
        assert abs(level.mean()) < 4 * (2 / fan_in / level.numel()) ** 0.5  # four standard errors
        assert float(level.detach().var()) == pytest.approx(2 / fan_in, rel=0.2)
        assert level.abs().max() <= (6 / fan_in) ** 0.5
    again = wrapped(nn.Conv2d(64, 64, 3), moved=False, **options).filtersub_expansion["default"]
    other = wrapped(nn.Conv2d(64, 64, 3), moved=False, seed=1, **options).filtersub_expansion["default"]
    assert torch.equal(again[0], first)
    assert not torch.equal(other[0], first)


def test_only_spatial_kernels_are_expanded():
    """Setting 4 of the paper trains d-alpha_1, dD_1 and a plain dD_c."""
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 1))
    tuned = get_peft_model(model, FilterSubspaceConfig(target_modules=".*", atoms=3, block=2, expansion=4))
    spatial, pointwise = tuned.base_model.model
    assert spatial.filtersub_atoms["default"].shape == (3, 4, 9)
    assert pointwise.filtersub_atoms["default"].shape == (12, 4)
    assert "default" not in pointwise.filtersub_expansion


@pytest.mark.parametrize("kind", ["conv2d", "grouped", "transposed2d", "linear", "transformers Conv1D"])
def test_the_memory_free_mode_equals_stored_coefficients(kind):
    layer, shape = LAYERS[kind]
    stored = wrapped(layer, moved=False)
    free = wrapped(layer, moved=False, hold_coefficients=None)
    assert "default" not in free.filtersub_coefficients
    m, d = stored.coefficients("default").shape[1], stored.layouts["default"].patch_size
    assert sum(b.numel() for b in free.buffers()) == d * m + m  # V and the fingerprint
    torch.testing.assert_close(free.coefficients("default"), stored.coefficients("default"), atol=1e-10, rtol=0)
    printed = [tuner.filtersub_fingerprint["default"] for tuner in (free, stored)]
    torch.testing.assert_close(*printed, atol=1e-9, rtol=0)
    with torch.no_grad():
        for tuner in (stored, free):
            tuner.filtersub_atoms["default"].copy_(
                torch.randn(tuner.filtersub_atoms["default"].shape, generator=torch.Generator().manual_seed(2))
            )
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(free(x), stored(x), atol=1e-10, rtol=0)
        before = free(x)
        free.merge()  # alpha is a map of the kernels before merging: a second adapter's update must not change
        free.add_adapter("other", FilterSubspaceConfig(atoms=3, block=2, block_spatial=True, solver="pca"))
        torch.testing.assert_close(free.filtersub_mapping["other"], free.filtersub_mapping["default"])
        delta = free.get_delta_weight("default")
        assert torch.equal(free(x), before)
        free.unmerge()
        assert torch.equal(free.get_delta_weight("default"), delta)


def test_bad_settings_of_the_modes_are_named():
    with pytest.raises(FiltersubError, match="solver 'lasso' has codes that are no linear map"):
        FilterSubspaceConfig(hold_coefficients=False)
    with pytest.raises(FiltersubError, match="drop save_coefficients"):
        FilterSubspaceConfig(solver="pca", hold_coefficients=False, save_coefficients=True)
