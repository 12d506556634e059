"""A block that joins channels in no layer is refused at every door, instead of falling back to 1 in silence."""

import json

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from typer.testing import CliRunner

from filtersub import DecompositionConfig, FilterSubspaceConfig, decompose_model
from filtersub.cli import app
from filtersub.diagnostics import penalty_path
from filtersub.errors import FiltersubError
from filtersub.explore import Explorer
from filtersub.kernels import layout_of, select_layers
from filtersub.methods import inject
from filtersub.parameters import count_parameters, suggest_settings


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.Conv2d(12, 18, 1),
        nn.Conv2d(18, 18, 3, padding=1, groups=18),
        nn.Flatten(),
        nn.Linear(18 * 16, 6),
        nn.Linear(6, 6),
    )


#: (settings of a recipe, layers): why it is refused
UNUSED = {
    "larger than any": ({"block": 10**9}, None, "block 1000000000 divides the channels of no layer"),
    "beyond 64 bits": ({"block": 2**63}, None, "divides the channels of no layer"),
    "divides none": ({"block": 7}, None, "sides that do: 2, 3"),
    "one of two sides": ({"block": (3, 7)}, None, "divides .*: its side of output channels"),
    "the other side": ({"block": (7, 3)}, None, "divides .*: its side of input channels"),
    "spatial kernels too": ({"block": 7, "block_spatial": True}, "^[02]$", "divides the channels of no layer"),
    "of coefficients": ({"block": 7, "block_coefficients": True}, "^[02]$", "divides the channels of no layer"),
    "no layer for it, and too large": ({"block": 10**9}, "^[02]$", "divides the channels of no layer"),
}
RECIPES = [pytest.param(*case, id=name) for name, case in UNUSED.items()]

#: what takes a recipe and a pattern of layers
DOORS = {
    "decompose_model": lambda model, recipe, layers: decompose_model(model, recipe, layers=layers),
    "a file's tensors": lambda model, recipe, layers: decompose_model(
        {k: v for k, v in model.state_dict().items() if v.ndim > 1}, recipe, layers=layers
    ),
    "inject": lambda model, recipe, layers: inject(model, "filter-subspace", None, recipe=recipe, layers=layers),
    "count_parameters": lambda model, recipe, layers: count_parameters(model, recipe=recipe, layers=layers),
    "penalty_path": lambda model, recipe, layers: penalty_path(model, recipe, [0.1], layers=layers),
    "peft": lambda model, recipe, layers: get_peft_model(
        model,
        FilterSubspaceConfig(
            target_modules=None if layers is None else "[02]",
            block=recipe.block,
            block_spatial=recipe.block_spatial,
            block_coefficients=recipe.block_coefficients,
        ),
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("settings", "layers", "message"), RECIPES)
def test_it_is_refused_from_python(settings, layers, message, door):
    if door == "penalty_path" and "block_coefficients" in settings:
        pytest.skip("a path over penalties codes the kernels alone, whose blocks these are not")
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(FiltersubError, match=message) as raised:
        DOORS[door](model, DecompositionConfig(atoms=2, **settings), layers)
    assert "\n" not in str(raised.value)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("block", [10**9, 7, (3, 7)])
def test_it_is_refused_where_layers_are_explored_and_listed(block):
    with pytest.raises(FiltersubError, match="divides the channels of no layer"):
        Explorer(network(), block=block)
    with pytest.raises(FiltersubError, match="divides the channels of no layer"):
        select_layers(network(), block=block)


def test_the_block_of_an_override_must_be_used_by_its_own_layers():
    with pytest.raises(FiltersubError, match="block 5 divides"):
        decompose_model(network(), DecompositionConfig(atoms=2, block=3), overrides={"1": {"block": 5}})
    done = decompose_model(network(), DecompositionConfig(atoms=2, block=7), overrides={"1|4|5": {"block": 3}})
    assert done.layers["1"].layout.block == (3, 3)


@pytest.mark.parametrize("block", [1, 2, 6, (2, 6), (1, 9), (18, 1)])
def test_blocks_that_some_layer_uses_pass(block):
    for name, layout in select_layers(network(), block=block).items():
        assert layout == layout_of(name, network()[int(name)], block)
    assert count_parameters(network(), recipe=DecompositionConfig(atoms=2, block=block)).trainable > 0


def test_a_block_beside_spatial_layers_alone_is_left_aside_as_ever():
    """Recipes with a block are used on parts of a network too."""
    done = decompose_model(network(), DecompositionConfig(atoms=2, block=3, solver="pca"), layers="^[02]$")
    assert {layer.layout.block for layer in done.layers.values()} == {(1, 1)}
    tuned = get_peft_model(network(), FilterSubspaceConfig(atoms=2, block=3, solver="pca", target_modules="[02]"))
    assert [p.shape for p in tuned.parameters() if p.requires_grad] == [(2, 9), (2, 9)]


def test_a_depthwise_network_may_block_one_side_of_a_number_for_both():
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8))
    layout = select_layers(layers, block=4, block_spatial=True)["0"]
    assert layout.block == (4, 1)


def test_a_budget_passes_over_blocks_that_no_layer_uses():
    model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.Conv2d(7, 11, 3))
    assert {found.recipe.block for found in suggest_settings(model, 10_000)} <= {None}


def test_adapters_that_were_saved_with_one_still_load(tmp_path):
    get_peft_model(network(), FilterSubspaceConfig(atoms=2, target_modules="[02]")).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block": 10**9}))
    loaded = PeftModel.from_pretrained(network(), str(tmp_path), is_trainable=True)
    assert loaded.get_base_model()[0].filtersub_atoms["default"].shape == (2, 9)


COMMANDS = {
    "decompose": ("decompose", "efficientnet_lite0", "--no-pretrained", "--block", "{block}"),
    "decompose a YAML file": ("decompose", "efficientnet_lite0", "--no-pretrained", "--config", "{recipe}"),
    "count": ("count", "efficientnet_lite0", "--block", "{block}"),
    "tune": ("tune", "efficientnet_lite0", "--no-pretrained", "--block", "{block}", "--out", "{out}"),
    "tune with an override": (
        *("tune", "efficientnet_lite0", "--no-pretrained", "--out", "{out}"),
        *("--override", "conv_pw:block={block}"),
    ),
}


@pytest.mark.parametrize("block", [10**9, 2**63, 11])
@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_refused_on_the_command_line(command, block, tmp_path):
    places = {"block": block, "out": tmp_path / "out", "recipe": tmp_path / "recipe.yaml"}
    places["recipe"].write_text(f"block: {block}\n")
    done = CliRunner().invoke(app, [word.format(**places) for word in COMMANDS[command]])
    assert isinstance(done.exception, FiltersubError), done.output
    assert f"block {block} divides the channels of no layer that takes part; sides that do: 2" in str(done.exception)
    assert not list(tmp_path.glob("out/record*"))


def test_a_dry_run_says_it_of_the_run(tmp_path):
    path = tmp_path / "blocks.yaml"
    path.write_text(
        "name: t\ntitle: T\nquestion: Q?\nstages:\n  - notebook: 02_tuning\n    grid: {block: [4, 1000000000]}\n"
    )
    shown = CliRunner().invoke(app, ["ablate", str(path), "--out", str(tmp_path / "out"), "--dry-run", "--json"])
    fits, unused = json.loads(shown.stdout)["runs"]
    assert fits["trainable"] > 0
    assert unused["trainable"] is None
    assert "block 1000000000 divides the channels of no layer" in unused["note"]
