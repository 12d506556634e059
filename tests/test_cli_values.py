"""Values at the ends of what an option takes, and terminals that know no Greek letters."""

import ast
import dataclasses
import hashlib
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_ablation import PARAMETERS, WORK, write_notebook
from typer.testing import CliRunner

from filtersub import DecompositionConfig, FilterSubspaceConfig, encode, learn_dictionary
from filtersub.ablation import plan
from filtersub.ablation.notebook_file import read_notebook
from filtersub.ablation.spec import parse_spec
from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.generation.settings import DenoisingConfig
from filtersub.methods.options import MethodOptions
from filtersub.parameters import parse_budget
from filtersub.studies.parameters import parameter_study
from filtersub.training import TrainingConfig
from filtersub.version import package_version

NAN, INF = float("nan"), float("inf")

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


# no setting that is a number takes one of these
NO_NUMBERS = [NAN, INF, -INF, "6", b"6", [], {}, (), 1j, torch.tensor([6, 7]), np.array([6, 7])]
LARGE = [2**63, 10**40]
CONFIGS = (DecompositionConfig, TuneSettings, TrainingConfig, DenoisingConfig, MethodOptions)
#: of whole numbers, those that may be as large as they like: they are held against the data or the model later
UNBOUNDED = {"patience", "n_train", "checkpoint_every", "preview_every", "sampling_steps", "steps", "warmup_steps"}
UNBOUNDED |= {"rank", "depthwise_rank", "oft_block", "boft_block", "reduction", "preview_count", "block"}


def numeric(kind):
    """(field, whether it is a whole number, whether None means something) of each number of a dataclass."""
    for field in dataclasses.fields(getattr(kind, "FLAT", kind)):
        kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
        words = set(kind.split(" | "))
        if words & {"int", "float"}:
            yield field.name, "float" not in words, "None" in words, words


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_number_of_every_config_is_used_or_refused_by_its_name(kind):
    told = inspect.getdoc(kind).splitlines()
    assert {line.split(" : ")[0] for line in told if " : int" in line or " : float" in line} == {
        name for name, *_ in numeric(kind)
    }
    for name, whole, optional, words in numeric(kind):
        refused = [*NO_NUMBERS, True, *([6.0, 6.5, np.float32(6)] if whole else []), *([] if optional else [None])]
        if any(word.startswith("tuple") for word in words):
            refused = [value for value in refused if not isinstance(value, list | tuple)]
        for value in [*refused, *(LARGE if whole and name not in UNBOUNDED else [])]:
            with pytest.raises(FiltersubError) as error:
                kind(**{name: value})
            assert name.removesuffix("s") in str(error.value).replace(" ", "_") or name == "depthwise_rank"
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [DecompositionConfig, TuneSettings, TrainingConfig, MethodOptions])
def test_numbers_of_numpy_are_those_of_python(kind):
    """So that records and adapters can hold them."""
    for name, whole, _, _ in numeric(kind):
        value = getattr(kind(), name)
        value = (2 if whole else 0.5) if value is None or isinstance(value, tuple) else value
        if name in ("patience", "rates", "ema_decay", "warmup_rate"):  # mean something beside others
            continue
        made = getattr(kind(**{name: np.int64(value) if whole else np.float32(value)}), name)
        assert type(made) is (int if whole else float)
        assert made == (value if whole else float(np.float32(value)))
    held = FilterSubspaceConfig(atoms=np.int32(6), l1_penalty=np.float64(0.5), save_coefficients=np.True_)
    assert json.loads(json.dumps(dataclasses.asdict(held)["atoms"])) == 6
    assert (type(held.l1_penalty), held.save_coefficients) == (float, True)


ROWS = torch.eye(4, dtype=torch.float64)
FUNCTIONS = {
    "l1_penalty": lambda value: encode(ROWS, ROWS, "lasso", l1_penalty=value),
    "l1_penalty of fista": lambda value: encode(ROWS, ROWS, "fista", l1_penalty=value),
    "n_nonzero": lambda value: encode(ROWS, ROWS, "omp", n_nonzero=value),
    "max_residual": lambda value: encode(ROWS, ROWS, "omp", max_residual=value),
    "atoms": lambda value: learn_dictionary(ROWS, value),
    "n_nonzero of learning": lambda value: learn_dictionary(ROWS, 2, solver="omp", n_nonzero=value),
    **{
        name: lambda value, name=name: learn_dictionary(ROWS, 2, **{name: value})
        for name in ("max_rounds", "tol", "seed", "n_starts", "sample_rows", "batch_rows", "forgetting")
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_of_coding_and_learning(name):
    for value in [*NO_NUMBERS, True, -1]:
        if isinstance(value, torch.Tensor) and name == "max_residual":  # one for each row is meant
            continue
        with pytest.raises(FiltersubError) as error:
            FUNCTIONS[name](value)
        assert name.split()[0].replace("l1_penalty", "L1 penalty") in str(error.value)


@pytest.mark.parametrize("name", ["models", "atoms", "expansions", "blocks", "ranks", "presets"])
def test_an_empty_list_is_refused_before_anything_is_counted(name, tmp_path):
    with pytest.raises(FiltersubError, match=f"{name} is empty"):
        parameter_study(tmp_path / "out", **{name: []})
    assert not (tmp_path / "out").exists()


def test_a_terminal_of_ascii_shows_what_it_can():
    code = (
        "from filtersub.cli import application, main; "
        "application.called = lambda words: lambda: print('alpha \\u03b1, m\\u2081'); main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alpha \\u03b1, m\\u2081\n")


def test_a_run_is_called_as_it_always_was(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", PARAMETERS, WORK + "print('ä')")
    stage = {"notebook": str(path), "parameters": {"size": 3, "rate": 0.1}}
    (run,) = plan(parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}), tmp_path)
    code = [ast.dump(ast.parse(cell.source)) for cell in read_notebook(path).cells if cell.is_code]
    named = json.dumps([code, {"size": 3, "rate": 0.1}, package_version()], sort_keys=True)
    assert run.run_id == f"a-{hashlib.sha256(named.encode()).hexdigest()[:8]}"


FULL = "filtersub: cannot write the output: No space left on device; make room, or write it elsewhere\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full, as Linux has")
@pytest.mark.parametrize("words", ["--version", "count --help", "data list"])
def test_output_that_cannot_be_written_is_one_line(words):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "filtersub", *words.split()]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (2, FULL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full, as Linux has")
@pytest.mark.parametrize("words", ["paper --part figure4", "count resnet18 --json"])
def test_longer_output_that_cannot_be_written_is_one_line(words, run_code):
    """The process is forked with its imports made, and its output led to the full device."""
    led = "import os, runpy; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); "
    ended = run_code(led + "runpy.run_module('filtersub', run_name='__main__')", *words.split())
    assert (ended.returncode, ended.stderr) == (2, FULL)
