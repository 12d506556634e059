"""Recipes by layer, atoms of every layer kind, blocks of alpha: start, saving, merging, and what is refused."""

import copy
import json

import pytest
import torch
from conftest import POINTWISE, SPATIAL
from peft import PeftModel, get_peft_model
from torch import nn

from filtersub.decomposition import DecompositionConfig, choose_atoms, decompose_model, decompose_weight
from filtersub.decomposition.layer import repeated
from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

EVERY_LAYER = {"expansion": 2, "expansion_layers": "all", "expansion_coefficients": "per-channel"}
FORMS = {
    "expanded on every layer": {"atoms": 3, "block": 2, "solver": "pca", **EVERY_LAYER},
    "the same, sparse codes": {"atoms": 9, "block": 4, "l1_penalty": 1e-2, "max_rounds": 3, **EVERY_LAYER},
    "1x1 without blocks": {"atoms": 3, "block": 1, "solver": "pca", "limit_atoms": False, **EVERY_LAYER},
    "alpha in blocks": {"atoms": 3, "block": 2, "block_coefficients": True, "solver": "pca", **EVERY_LAYER},
    "alpha in blocks, sparse": {"atoms": 3, "block": 2, "block_coefficients": True, "max_rounds": 3},
    "by layer": {
        "atoms": 3,
        "solver": "pca",
        "overrides": {
            "^(stem|grouped)$": {"atoms": 2, "expansion": 3},
            "pointwise": {"block": 4},
            "strided": {"solver": "lasso", "max_rounds": 2},
            "mix": {"block": 2, "block_coefficients": True},
        },
    },
}


def layers_of(model):
    return {module.name: module for module in model.modules() if isinstance(module, FilterSubspaceLayer)}


def moved(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("form", FORMS)
def test_everything_trains_and_the_start_is_the_base(every_kind, images, form):
    with torch.no_grad():
        before = every_kind(images)
    model = get_peft_model(every_kind, FilterSubspaceConfig(**FORMS[form], modules_to_save=["classifier"])).eval()
    with torch.no_grad():
        assert torch.equal(model(images), before)
    moved(model)(images).square().sum().backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient is not None and bool(gradient.any()) for gradient in trained.values())


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_saved_loaded_merged(every_kind, images, tmp_path, form, stored):
    base = copy.deepcopy(every_kind)
    config = FilterSubspaceConfig(**FORMS[form], modules_to_save=["classifier"], save_coefficients=stored)
    model = moved(get_peft_model(every_kind, config))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        wanted = model(images)
        assert torch.equal(loaded(images), wanted)
        loaded.add_adapter("second", FilterSubspaceConfig(**FORMS[form]))
        loaded.base_model.set_adapter(["default", "second"])
        torch.testing.assert_close(loaded(images), wanted, atol=1e-5, rtol=1e-4)
        loaded.set_adapter("default")
        torch.testing.assert_close(loaded.merge_and_unload()(images), wanted, atol=1e-5, rtol=1e-4)


def test_which_layers_are_expanded(every_kind):
    model = get_peft_model(every_kind, FilterSubspaceConfig(**FORMS["expanded on every layer"]))
    tuned = layers_of(model)
    assert set(tuned) == {*SPATIAL, *POINTWISE}
    assert all("default" in layer.filtersub_expansion for layer in tuned.values())
    alpha_1 = tuned["pointwise"].filtersub_expansion["default"][0]
    assert alpha_1.shape == (12 // 2, 4, 2)  # 6 blocks of input channels, 4 principal atoms of 2 x 2, m_1 = 2


def test_recipes_by_layer(every_kind):
    tuned = layers_of(get_peft_model(every_kind, FilterSubspaceConfig(**FORMS["by layer"])))
    assert set(tuned) == {*SPATIAL, *POINTWISE}
    shapes = {name: tuple(layer.filtersub_atoms["default"].shape) for name, layer in tuned.items()}
    assert shapes["stem"] == shapes["grouped"] == (2, 3, 9)
    assert shapes["strided"] == (3, 9)
    assert shapes["pointwise"] == (12, 16)  # 4 x 4 blocks of 12 x 16 channels: 12 rows
    assert not tuned["strided"].filtersub_mapping
    assert tuned["transposed"].filtersub_mapping
    assert tuned["mix"].filtersub_block_atoms["default"].shape == (4, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stems": {"atoms": 2}}, "the override of 'stems' matches no layer that takes part"),
        ({"classifier": {"atoms": 2}}, "the override of 'classifier' matches no layer"),
        ({"^stem": {"atoms": 2}, "st": {"atoms": 4}}, "both match layer 'stem' and give it atoms 2 and 4"),
        ({"stem": {"atom": 2}}, "did you mean 'atoms'"),
        ({"stem": {"atoms": 0}}, "the overrides of layer 'stem': the number of atoms must be a positive integer"),
        ({"(": {"atoms": 2}}, "not a regular expression"),
        ({"stem": 2}, "must map settings to values"),
        ([("stem", 2)], "overrides must map patterns"),
        ({"stem": {"block_coefficients": True}}, "set block"),
    ],
)
def test_overrides_that_cannot_be_are_refused(every_kind, overrides, message):
    with pytest.raises(FiltersubError, match=message):
        get_peft_model(every_kind, FilterSubspaceConfig(atoms=2, solver="pca", overrides=overrides))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_scale": 0.0}, "init_scale must be a finite number > 0, got 0.0"),
        ({"init_scale": -1}, "init_scale must be a finite number > 0, got -1"),
        ({"init_scale": float("nan")}, "init_scale must be"),
        ({"init_scale": "2"}, "init_scale must be"),
        ({"expansion_init": "normal"}, "unknown expansion_init 'normal'; did you mean 'fan-in-normal'"),
        ({"expansion_layers": "every"}, "unknown expansion_layers 'every'"),
        ({"limit_atoms": 1}, "limit_atoms must be true or false"),
        ({"block_coefficients": True}, "block_coefficients blocks alpha by block; set block"),
        ({"block_coefficients": True, "block": 2, "block_spatial": True}, "leave one of them out"),
        ({"block_coefficients": True, "block": 2, "solver": "pca", "hold_coefficients": False}, "must be held"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(FiltersubError, match=message):
        FilterSubspaceConfig(**settings)


def start_of(channels, **settings):
    config = FilterSubspaceConfig(
        target_modules=["0"], solver="pca", expansion=3, expansion_coefficients="per-channel", **settings
    )
    model = get_peft_model(nn.Sequential(nn.Conv2d(channels, 8, 3)), config)
    return model.base_model.model[0].filtersub_expansion["default"][0].detach()


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize(
    ("init", "channels", "std"),
    [("fan-in-normal", 64, 1 / 72), ("fan-in-normal", 512, 0.00491), ("uniform", 64, 0.8165)],
)
def test_the_start_of_alpha_1(init, channels, std, scale):
    """1 / sqrt(3 m m_1 c') for the authors' start, sqrt(2 / m_1) for Kaiming uniform; m = 9, m_1 = 3."""
    drawn = start_of(channels, expansion_init=init, init_scale=scale)
    assert float(drawn.std()) == pytest.approx(scale * std, rel=4 / (2 * drawn.numel()) ** 0.5)
    assert abs(float(drawn.mean())) < 4 * scale * std / drawn.numel() ** 0.5
    assert (float(drawn.abs().max()) <= scale * (6 / 3) ** 0.5) == (init == "uniform" or scale * std < 0.3)
    assert torch.equal(drawn, start_of(channels, expansion_init=init, init_scale=scale))


def test_adapters_of_before_still_load(every_kind, images, tmp_path):
    base = copy.deepcopy(every_kind)
    model = moved(get_peft_model(every_kind, FilterSubspaceConfig(atoms=3, block=2, solver="pca", expansion=2)))
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    for new in ("expansion_layers", "expansion_init", "init_scale", "block_coefficients", "limit_atoms", "overrides"):
        del config[new]
    path.write_text(json.dumps(config))
    with torch.no_grad():
        assert torch.equal(PeftModel.from_pretrained(base, tmp_path).eval()(images), model(images))


def test_blocks_of_alpha_are_not_combined(every_kind):
    form = FORMS["alpha in blocks"]
    model = get_peft_model(every_kind, FilterSubspaceConfig(**form))
    model.add_adapter("other", FilterSubspaceConfig(**form))
    with pytest.raises(FiltersubError, match="the sum of products is no product"):
        model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "both")


def test_adapters_with_recipes_by_layer_are_combined(every_kind):
    form = {"atoms": 3, "solver": "pca", "overrides": {"stem": {"expansion": 2}, "grouped": {"atoms": 2}}}
    model = moved(get_peft_model(every_kind, FilterSubspaceConfig(**form)))
    model.add_adapter("other", FilterSubspaceConfig(**form))
    model.set_adapter("other")
    moved(model, 2)
    model.add_weighted_adapter(["default", "other"], [0.5, -2.0], "both")
    for layer in layers_of(model).values():
        expected = 0.5 * layer.get_delta_weight("default") - 2.0 * layer.get_delta_weight("other")
        torch.testing.assert_close(layer.get_delta_weight("both"), expected, atol=1e-6, rtol=1e-4)
    model.peft_config["other"].overrides = None
    with pytest.raises(FiltersubError, match="cannot be combined: overrides is"):
        model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "again")


@pytest.mark.parametrize("solver", ["lasso", "pca", "omp", "random"])
def test_atoms_beyond_the_limit_repeat(solver):
    """alpha x D, and the sum of the coefficients' sizes, are those of the atoms within the limit."""
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layout = layout_of("layer", weight)
    limited, whole = (
        decompose_weight(layout, weight, DecompositionConfig(atoms=11, solver=solver, limit_atoms=limit))
        for limit in (True, False)
    )
    assert limited.atoms.shape[0] == 6
    assert whole.atoms.shape[0] == 11
    torch.testing.assert_close(whole.weight(), limited.weight())
    torch.testing.assert_close(whole.coefficients.abs().sum(), limited.coefficients.abs().sum())
    assert torch.equal(whole.atoms[6:], limited.atoms[:5])
    assert "6 of 11 atoms differ: there are only 6 rows" in whole.note
    assert bool(whole.coefficients[:, limited.coefficients.any(0).nonzero()[0]].any())


@pytest.mark.parametrize("solver", ["lasso", "pca", "ridge"])
@pytest.mark.parametrize("blocks", [{"block": 1}, {"block": 2, "block_coefficients": True}])
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 6, 1), nn.Linear(8, 6), nn.Conv2d(8, 6, 3)], ids=lambda x: str(x)[:6])
def test_every_atom_gets_a_gradient_without_limits(layer, blocks, solver):
    """As many atoms as the authors' code has, nine of one entry for a 1x1 kernel, and none of them idle."""
    config = FilterSubspaceConfig(target_modules=["0"], limit_atoms=False, max_rounds=5, solver=solver, **blocks)
    model = get_peft_model(nn.Sequential(copy.deepcopy(layer)).double(), config)
    tuned = model.base_model.model[0]
    x = torch.randn(3, 8, dtype=torch.float64) if isinstance(layer, nn.Linear) else torch.randn(2, 8, 5, 5).double()
    tuned(x).square().sum().backward()
    assert tuned.filtersub_atoms["default"].shape[0] == 9
    for trained in (tuned.filtersub_atoms, tuned.filtersub_block_atoms):
        for atoms in trained.values():
            largest = atoms.grad.abs().amax(1)
            assert float(largest.min()) > 1e-6 * float(largest.max())
    if blocks["block"] == 2:
        assert tuned.filtersub_block_atoms["default"].shape == (36, 36)


def test_enough_atoms_are_left_alone():
    atoms, codes = torch.randn(4, 9), torch.randn(7, 4)
    assert repeated(atoms, codes, 4)[0] is atoms


@pytest.mark.parametrize("coefficients", [True, False])
def test_a_decomposition_with_blocks_of_alpha(every_kind, tmp_path, coefficients):
    recipe = DecompositionConfig(atoms=3, block=2, block_coefficients=True, max_rounds=5)
    found = decompose_model(every_kind, recipe, exclude=("classifier",))
    for layer in found.layers.values():
        outs, ins = layer.layout.channels
        alpha, blocks = layer.coefficients.reshape(outs, ins, -1), layer.blocks
        p, q = blocks.layout.block
        made = (blocks.coefficients @ blocks.atoms).reshape(outs // p, ins // q, p, -1, q)
        made = made.permute(0, 2, 1, 4, 3).reshape(alpha.shape)
        error = float((alpha - made).norm() / alpha.norm())
        assert blocks.relative_error == pytest.approx(error, abs=1e-5)
    path = found.save(tmp_path / "found.safetensors", coefficients=coefficients)
    again = type(found).load(path, every_kind)
    for name, layer in again.layers.items():
        torch.testing.assert_close(layer.blocks.atoms, found.layers[name].blocks.atoms)
        torch.testing.assert_close(
            layer.blocks.coefficients, found.layers[name].blocks.coefficients, atol=1e-5, rtol=1e-3
        )


def test_chosen_atoms_can_be_tuned(every_kind):
    """choose_atoms says how many atoms each layer needs; the tuner takes that as it is."""
    recipe = DecompositionConfig(block=2, solver="pca")
    choice = choose_atoms(
        every_kind, recipe, max_error=0.5, exclude=("classifier",), overrides={"stem": {"atoms": 7, "seed": 3}}
    )
    tuned = layers_of(
        get_peft_model(every_kind, FilterSubspaceConfig(block=2, solver="pca", overrides=choice.overrides))
    )
    assert set(tuned) == set(choice.atoms)
    for name, layer in tuned.items():
        wanted = DecompositionConfig(atoms=choice.atoms[name], block=2, solver="pca").n_atoms(layer.layouts["default"])
        assert layer.filtersub_atoms["default"].shape[0] == wanted
    assert tuned["stem"].recipes["default"].seed == 3
