"""Values at the ends of what an option takes, and terminals that know no Greek letters."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from filtersub import DecompositionConfig
from filtersub.ablation.planning import _digest, _Identity
from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.parameters import parse_budget
from filtersub.studies.parameters import parameter_study

REFUSED = {
    "top 0": ("suggest resnet18 --budget 100k --top 0", "top must be a positive integer, .*got 0"),
    "top -1": ("suggest resnet18 --budget 100k --top -1", "top must be a positive integer, .*got -1"),
    "budget 200%": ("suggest resnet18 --budget 200%", "the budget '200%' is more than any model has"),
    "budget 1e400": ("suggest resnet18 --budget 1e400", "the budget '1e400' is more than any model has"),
    "seed": (f"decompose efficientnet_lite0 --seed {2**70}", "seed must be at most 4,294,967,295"),
    "seed of tune": (f"tune efficientnet_lite0 --out OUT --seed {2**32}", "seed must be an integer from 0"),
    "expansion": (
        f"count resnet18 --expansion {10**12}",
        r"\(expansion\) must be at most 1,000,000, got 1,000,000,000,000",
    ),
    "atoms": (f"count resnet18 --atoms {10**30}", "the number of atoms must be at most 1,000,000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_means_nothing_is_refused(name, tmp_path):
    command, message = REFUSED[name]
    said = CliRunner().invoke(app, command.replace("OUT", str(tmp_path / "out")).split())
    assert isinstance(said.exception, FiltersubError), said.exception
    with pytest.raises(FiltersubError, match=message):
        raise said.exception
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecompositionConfig(nonzeros=10**9), "nonzeros must be at most"),
        (lambda: DecompositionConfig(expansion=(4, 10**9)), "must be at most"),
        (lambda: TuneSettings(seed=-1), "seed must be"),
        (lambda: parse_budget("100.1%", 10), "more than any model has"),
    ],
)
def test_the_same_from_python(make, message):
    with pytest.raises(FiltersubError, match=message):
        make()
    assert parse_budget("100%", 10) == 10
    assert DecompositionConfig(seed=2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize("name", ["models", "atoms", "expansions", "blocks", "ranks", "presets"])
def test_an_empty_list_is_refused_before_anything_is_counted(name, tmp_path):
    with pytest.raises(FiltersubError, match=f"{name} is empty"):
        parameter_study(tmp_path / "out", **{name: []})
    assert not (tmp_path / "out").exists()


def test_a_terminal_of_ascii_shows_what_it_can():
    code = "import sys; from filtersub import cli; cli.app = lambda: print('alpha \\u03b1, m\\u2081'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alpha \\u03b1, m\\u2081\n")


def test_a_run_is_called_as_it_always_was():
    code, parameters = ["a = 1", "ä"], {"b": [1, None], "a": 0.1}
    assert _Identity(code, "0.1.0").digest(parameters) == _digest(code, parameters, "0.1.0")
