"""``filtersub tune``: recipes and what overrides them, rivals, what is refused."""

import json
import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from filtersub import setting_fields
from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.experiment.settings import TuneSettings
from filtersub.methods import METHODS
from filtersub.records import read_record
from filtersub.tuning import FilterSubspaceConfig

TINY = ["--no-pretrained", "--n-train", "50", "--epochs", "1", "--batch-size", "25", "--image-size", "32"]


def run(*arguments):
    done = CliRunner().invoke(app, ["tune", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_options_override_a_recipe(tmp_path):
    options = ["--solver", "pca", "--atoms", 4, "--expansion", "3,2"]
    done = run("test_resnet", "--recipe", "embedded", *TINY, *options, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    given = {"atoms": 4, "expansion": [3, 2], "epochs": 1, "model": "test_resnet", "pretrained": False, "n_train": 50}
    found = read_record(tmp_path).parameters
    assert {name: found[name] for name in given} == given
    usual = TuneSettings(pretrained=False).parameters
    changed = {name for name in found if found[name] != usual[name]} | {"pretrained"}
    assert changed == {*given, "batch_size", "image_size", "solver"}


def test_every_setting_of_the_decomposition_is_used_and_recorded(tmp_path):
    given = {"solver": "omp", "nonzeros": 1, "init": "pca", "learner": "ksvd", "max_rounds": 2, "tol": 0.01, "atoms": 4}
    given |= {
        "expansion_layers": "all",
        "expansion_init": "fan-in-normal",
        "init_scale": 0.5,
        "expansion": 2,
        "block": 1,
    }
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    override = ["--override", "layer1:nonzeros=2,block=[2,2]", "--any-atoms"]
    done = run("test_resnet", *TINY, *options, *override, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    found = read_record(tmp_path).parameters
    recorded = {**given, "limit_atoms": False, "overrides": {"layer1": {"nonzeros": 2, "block": [2, 2]}}}
    assert {name: found[name] for name in recorded} == recorded
    (saved,) = tmp_path.rglob("adapter_config.json")
    config = FilterSubspaceConfig.from_pretrained(saved.parent)
    stem, first = config.recipe_of("conv1"), config.recipe_of("layer1.0.conv1")
    of_recipe = (
        "solver",
        "init",
        "learner",
        "max_rounds",
        "tol",
        "atoms",
        "expansion",
        "expansion_layers",
        "limit_atoms",
    )
    for name in of_recipe:
        assert getattr(stem, name) == getattr(first, name) == recorded[name]
    assert (stem.nonzeros, stem.block, first.nonzeros, first.block) == (1, 1, 2, (2, 2))
    assert (config.expansion_init, config.init_scale) == ("fan-in-normal", 0.5)


def test_a_rival_says_what_it_passes_over(tmp_path):
    done = run("test_efficientnet", *TINY, "--method", "boft", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "layers could not take part" in done.output
    assert "BOFT blocks of 4: accuracy" in done.output
    assert any("groups" in reason for reason in read_record(tmp_path).notes.values())


def test_the_rate_is_chosen_and_said(tmp_path):
    options = ["--method", "linear", "--learning-rate", "choose", "--rates", "0.001,0.01", "--json"]
    done = run("test_resnet", *TINY, *options, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    rates = [entry["learning_rate"] for entry in found["choices"]["learning_rate"]["candidates"]]
    assert rates == [0.001, 0.01]
    assert found["choices"]["learning_rate"]["chosen"] in rates


def test_every_method_is_in_the_help():
    text = CliRunner().invoke(app, ["tune", "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert all(method in text for method in METHODS)


def test_the_help_names_every_method():
    assert tuple(METHODS) == setting_fields.METHODS
    by_peft = [name for name, method in METHODS.items() if method.by_peft and name != "adalora"]
    assert ("none", "full", *by_peft, "lora-loralib") == setting_fields.OF_GENERATION
    options = {each.name: each for each in get_command(app).commands["tune"].params}
    assert re.split(r", | or ", options["method"].help.removesuffix(".").partition(": ")[2]) == list(METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a MODEL, such as efficientnet_lite0, or a --recipe"),
        (["--recipe", "cifar10"], "unknown recipe 'cifar10'"),
        (["--recipe", "vtab1k"], "the recipe 'vtab1k' needs --data"),
        (["resnet18", "--learning-rate", "high"], "'choose', got 'high'"),
        (["resnet18", "--learning-rate", "choose", "--rates", "a,b"], "--rates takes numbers"),
        (["resnet18", "--expansion", "x"], "--expansion takes numbers"),
        (["resnet18", "--init-scale", "0"], "init_scale must be a finite number > 0, got 0.0"),
        (["resnet18", *["--override", "layer4:atoms=2"] * 2], "the override of 'layer4' is given twice"),
        (["resnet18", "--override", "layer4"], "an override is PATTERN:setting=value"),
        (["resnet18", "--decomposition", "nowhere"], "cannot read nowhere"),
        (["resnet18", "--method", "lora", "--nonzeros", "2"], "--nonzeros is for filter-subspace"),
        (["resnet18", "--method", "lora", "--override", "a:atoms=2"], "--override is for filter-subspace"),
        (
            ["resnet18", "--method", "lora", "--atoms", "9"],
            "--atoms is for filter-subspace; the method lora has no use",
        ),
        (
            ["resnet18", "--rank", "8"],
            "--rank is for lora, lora-loralib, dora, loha, lokr, adalora, tucker-lora",
        ),
        (["resnet18", "--method", "hra", "--rank", "3"], "hra needs an even rank, got 3"),
        (["resnet18", "--method", "full", "--layers", "a"], "--layers is for filter-subspace, bitfit, norm, ssf"),
        (["resnet18", "--block-spatial"], "block_spatial blocks spatial kernels by block; set block"),
        (["resnet18", "--patience", "3"], "patience stops by validation images"),
    ],
)
def test_bad_input_is_one_clear_error(arguments, message, tmp_path):
    with pytest.raises(FiltersubError, match=message.replace("(", r"\(")):
        run(*arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonzeros", "2"], "2 nonzeros a row are for pursuits"),
        (["--override", "layer9:atoms=2"], "the override of 'layer9' matches no layer"),
        (["--override", "layer:atoms=2", "--override", "1:atoms=3"], "give it atoms 2 and 3"),
        (["--override", "layer:atoms=-1"], "the overrides of layer 'layer1.0.conv1': the number of atoms"),
    ],
)
def test_recipes_that_do_not_fit_the_model_are_refused_before_training(arguments, message, tmp_path):
    with pytest.raises(FiltersubError, match=message):
        run("test_resnet", *TINY, *arguments, "--out", tmp_path)
    assert not list(tmp_path.iterdir())
