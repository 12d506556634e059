"""The commands count and suggest, in process."""

import io
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.parameters import METHODS, PRESETS


def run(*arguments):
    done = CliRunner().invoke(app, [str(part) for part in arguments], env={"COLUMNS": "220"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_count_prints_stages_json_and_csv():
    value = json.loads(run("count", "resnet18", "--expansion", 4, "--json"))
    shown = run("count", "resnet18", "--expansion", 4)
    assert "layer3" in shown
    assert "layer3.0.conv1" not in shown
    assert f"{value['trainable']:,} trained" in shown
    table = pd.read_csv(io.StringIO(run("count", "resnet18", "--expansion", 4, "--csv")))
    assert table["trainable"].sum() == value["trainable"]
    assert "layer3.0.conv1" in run("count", "resnet18", "--every-layer")


def test_count_compares_methods():
    table = pd.read_csv(io.StringIO(run("count", "resnet18", "--compare", "--csv")))
    assert table["method"].tolist() == list(METHODS)
    assert "dora" in run("count", "resnet18", "--compare")
    for found in json.loads(run("count", "resnet18", "--compare", "--rank", 4, "--json")):
        assert found["model"] == "resnet18"


@pytest.mark.parametrize("name", ["vtab", "stable-diffusion-lora", "resnet50"])
def test_count_takes_presets(name):
    value = json.loads(run("count", "--preset", name, "--json"))
    assert value["preset"]["agrees"]
    assert value["trainable"] == sum(layer["trainable"] for layer in value["layers"])
    assert f"prints {PRESETS[name].printed}" in run("count", "--preset", name)


def test_count_lists_all_presets():
    table = pd.read_csv(io.StringIO(run("count", "--preset", "all", "--csv")))
    assert table["preset"].tolist() == list(PRESETS)


def test_count_knows_costs():
    value = json.loads(run("count", "resnet18", "--cost", "--image-size", 64, "--json"))
    assert value["cost"]["stored_coefficients"] == value["coefficients"]
    assert "optimizer bytes" in run("count", "resnet18", "--cost", "--image-size", 64)


def test_suggest_without_weights_goes_by_count():
    value = json.loads(run("suggest", "resnet50", "--budget", "0.5%", "--json"))
    assert value["criterion"] == "count"
    assert value["budget"] == int(0.005 * 25_557_032)
    assert all(found["trainable"] <= value["budget"] for found in value["suggestions"])


def test_suggest_with_weights_goes_by_gradient():
    small = ("--images", 20, "--image-size", 32, "--layers", r"blocks\.[12]", "--top", 3)
    value = json.loads(run("suggest", "efficientnet_lite0", "--budget", "5k", *small, "--json"))
    scores = [found["score"] for found in value["suggestions"]]
    assert value["criterion"] == "gradient energy"
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] < 1
    assert "of the energy of the kernels' gradient" in value["suggestions"][0]["why"]


CASES = {
    "no model": (("count",), "needs a MODEL"),
    "unknown preset": (("count", "--preset", "vtap"), "did you mean 'vtab'"),
    "preset and model": (("count", "resnet18", "--preset", "vtab"), "names its own model"),
    "unknown method": (("count", "resnet18", "--method", "lorra"), "unknown method 'lorra'"),
    "block of nothing": (("count", "resnet18", "--block", "7"), "divides the channels of no layer"),
    "expansion of words": (("count", "resnet18", "--expansion", "four"), "takes numbers"),
    "expansion of nothing": (("count", "resnet18", "--expansion", "0"), "expansion must be a positive integer"),
    "kind of expansion": (("count", "resnet18", "--expansion-coefficients", "share"), "did you mean 'shared'"),
    "rank of nothing": (("count", "resnet18", "--method", "lora", "--rank", "0"), "rank must be a positive integer"),
    "cost of lora": (("count", "resnet18", "--method", "lora", "--cost"), "costs are known of filter-subspace"),
    "budget of words": (("suggest", "resnet18", "--budget", "lots"), "no number of parameters"),
    "budget too small": (("suggest", "resnet18", "--budget", "5"), "the smallest possible"),
    "check without weights": (
        ("suggest", "resnet18", "--budget", "5k", "--check", "."),
        "only where weights are there",
    ),
    "no images": (("suggest", "efficientnet_lite0", "--budget", "5k", "--images", "0"), "images must be at least 1"),
    "unknown data": (("suggest", "efficientnet_lite0", "--budget", "5k", "--data", "digit"), "digit"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line(case):
    arguments, message = CASES[case]
    with pytest.raises(FiltersubError) as raised:
        run(*arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("columns", [20, 80])
def test_numbers_are_whole_however_narrow_the_terminal(columns):
    environment = {"COLUMNS": str(columns)}
    shown = CliRunner().invoke(app, ["count", "resnet18", "--compare"], env=environment).stdout
    rows = json.loads(run("count", "resnet18", "--compare", "--json"))
    assert "…" not in shown
    for found in rows:
        assert f"{found['trainable']:,}" in shown


def test_a_name_of_the_hub_is_told_what_is_taken_instead():
    with pytest.raises(FiltersubError, match=r"not fetched.*did you mean 'convnext'\?"):
        run("count", "transformers:facebook/convnext-tiny-224")


@pytest.mark.parametrize("command", [("count",), ("suggest", "--budget", "10k"), ("decompose", "--no-pretrained")])
@pytest.mark.parametrize("formats", [("--json", "--csv"), ("--csv", "--json")])
def test_two_formats_at_once_are_refused(command, formats):
    done = CliRunner().invoke(app, [command[0], "resnet18", *command[1:], *formats])
    assert isinstance(done.exception, FiltersubError)
    assert "--json and --csv exclude one another" in str(done.exception)
    assert not done.stdout
