"""What a run takes that names neither batch norm nor rates, by every way in; published presets name them."""

import re
from pathlib import Path

import pandas as pd
import pytest
from torch import nn
from typer.testing import CliRunner

import filtersub.experiment
from filtersub.ablation import find_notebook
from filtersub.ablation.notebook_contract import notebook_parameters
from filtersub.ablation.planning import plan
from filtersub.ablation.spec import load_spec, presets
from filtersub.cli import app
from filtersub.experiment.run import rate_remark
from filtersub.experiment.settings import TuneSettings, settings_among, settings_from
from filtersub.methods import METHODS
from filtersub.methods.rates import BLOCKS, HEAD_RATE, RATES
from filtersub.recipes import load_recipe

ROOT = Path(__file__).parents[1]
#: preset -> folder of its published report
PUBLISHED = {path.name: path for path in sorted((ROOT / "reports" / "embedded").iterdir()) if path.name in presets()}
PUBLISHED["quickstart"] = ROOT / "reports" / "sample"
WITH_RUNS = [name for name, folder in PUBLISHED.items() if (folder / "runs.csv").exists()]
#: one run of each key of the table
RUNS = [(name, {"method": "filter-subspace", "block": 4} if name == BLOCKS else {"method": name}) for name in RATES]


def found(settings):
    return settings.batch_norm, settings.learning_rate, settings.head_learning_rate


def test_every_method_has_usual_rates():
    assert list(RATES) == [
        each for name in METHODS for each in ([name, BLOCKS] if name == "filter-subspace" else [name])
    ]


def test_the_guide_has_the_table():
    told = (ROOT / "docs" / "training.md").read_text().partition("### Usual learning rates")[2].partition("###")[0]
    rows = [
        [cell.strip().replace("`", "") for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.*", told, re.M)
    ]
    assert rows[1:] == [[name, f"{each.frozen:g}", f"{each.moving:g}", each.tried] for name, each in RATES.items()]


@pytest.mark.parametrize(("name", "run"), RUNS, ids=[name for name, _ in RUNS])
def test_pretrained_statistics_are_kept_at_the_rates_for_that(name, run):
    rates = RATES[name]
    assert found(TuneSettings(**run)) == ("frozen", rates.frozen, HEAD_RATE)
    assert found(TuneSettings(**run, weights="mine.pth")) == found(TuneSettings(**run))
    assert found(load_recipe("embedded").settings_with(**run)) == found(TuneSettings(**run))
    random = ("recomputed", rates.moving, HEAD_RATE)
    assert found(TuneSettings(**run, pretrained=False)) == random
    assert found(load_recipe("embedded").settings_with(**run, pretrained=False)) == random
    assert found(TuneSettings(**run, batch_norm="recomputed")) == random


def test_rates_are_those_of_before_where_statistics_move():
    of_then = {"filter-subspace": 3e-2, BLOCKS: 2e-2}
    assert {name: rates.moving for name, rates in RATES.items()} == {name: of_then.get(name, 3e-3) for name in RATES}


def test_what_is_given_wins():
    given = {"batch_norm": "adapted", "learning_rate": 0.5, "head_learning_rate": 0.25}
    for pretrained in (True, False):
        assert found(TuneSettings(**given, pretrained=pretrained)) == ("adapted", 0.5, 0.25)
    assert TuneSettings(batch_norm="frozen", pretrained=False).batch_norm == "frozen"
    full = TuneSettings(method="full", learning_rate="choose")
    assert full.candidate_rates == (3e-5, 9e-5, 3e-4, 9e-4)
    assert TuneSettings(method="full", learning_rate="choose", batch_norm="updated").candidate_rates[2] == 3e-3


@pytest.mark.parametrize("run", [{}, {"method": "full"}, {"block": 4}, {"method": "lora", "batch_norm": "recomputed"}])
def test_the_command_line_and_the_notebook_take_the_same(run, monkeypatch, tmp_path):
    class Seen(Exception):
        pass

    def seen(settings, *_, **__):
        raise Seen(settings)

    monkeypatch.setattr(filtersub.experiment, "tune", seen, raising=False)
    options = [part for name, value in run.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    for recipe in ([], ["--recipe", "embedded"]):
        done = CliRunner().invoke(app, ["tune", "efficientnet_lite0", *recipe, *options, "--out", str(tmp_path)])
        assert isinstance(done.exception, Seen), done.output
        assert done.exception.args[0] == TuneSettings(**run)
    of_notebook = {name: default for name, (_, default) in notebook_parameters(find_notebook("02_tuning")).items()}
    assert settings_among({**of_notebook, **run}) == TuneSettings(**run)


def test_a_record_holds_the_values_that_ran_and_one_of_before_means_the_default_of_then():
    parameters = TuneSettings(method="full").parameters
    assert (parameters["batch_norm"], parameters["learning_rate"]) == ("frozen", 3e-4)
    assert settings_from(parameters, "here") == TuneSettings(method="full")
    del parameters["batch_norm"]
    assert settings_from(parameters, "here").batch_norm == "recomputed"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_names_its_batch_norm(name, tmp_path):
    """So that it goes on meaning what its report shows, whatever the default becomes."""
    runs = [run for run in plan(load_spec(name), tmp_path) if "batch_norm" in notebook_parameters(run.notebook)]
    assert all(run.parameters.get("batch_norm") for run in runs)


@pytest.mark.parametrize("name", WITH_RUNS)
def test_a_published_preset_is_the_runs_of_its_report(name, tmp_path):
    table = pd.read_csv(PUBLISHED[name] / "runs.csv")
    table = table[table["kind"] == "tuning"]
    columns = ["model", "data", "method", "atoms", "block", "seed", "epochs", "batch_norm", "learning_rate"]
    columns += ["head_learning_rate"]
    runs = [run for run in plan(load_spec(name), tmp_path) if run.notebook.stem == "02_tuning"]
    planned = pd.DataFrame([settings_among(run.parameters).parameters for run in runs])
    assert sorted(map(_plain, table[columns].values)) == sorted(map(_plain, planned[columns].values))


def _plain(values):
    texts = ("" if value is None or value != value else str(value) for value in values)
    return tuple(re.sub(r"\.0$", "", text) for text in texts)


def test_a_network_without_batch_norm_is_told_that_its_rate_was_chosen_on_another():
    """Where the rate was left out, and more than the head is trained."""
    without = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    told = rate_remark(without, TuneSettings(model="convnext_atto"))
    assert told.startswith("convnext_atto has no batch norm, and the usual learning rate 0.003 was chosen on a network")
    assert rate_remark(without, TuneSettings(learning_rate=0.003)) == ""
    assert rate_remark(without, TuneSettings(learning_rate="choose")) == ""
    assert rate_remark(without, TuneSettings(method="linear")) == ""
    assert rate_remark(nn.BatchNorm2d(3), TuneSettings()) == ""
