"""Fuzz: whatever is asked of the command line, of a file or of a record, ends in a result or in one clear line.

200 inputs in all here; ``make fuzz`` asks 2,000 (FILTERSUB_FUZZ=2000).
"""

import contextlib
import json
import os
import string
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_cli_sweep import GIVEN
from typer.main import get_command
from typer.testing import CliRunner

hypothesis = pytest.importorskip("hypothesis", reason="the fuzz needs hypothesis, of the extra `dev`")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from filtersub import DecompositionConfig, FilterSubspaceConfig, TuneSettings  # noqa: E402
from filtersub.ablation import load_spec, plan  # noqa: E402
from filtersub.cli import app  # noqa: E402
from filtersub.collect import collect, curve_table, history_table, settings_table, tuning_table  # noqa: E402
from filtersub.errors import FiltersubError  # noqa: E402
from filtersub.generation import DenoisingConfig, MethodSettings  # noqa: E402
from filtersub.methods import MethodOptions  # noqa: E402
from filtersub.parameters import BaselineOptions  # noqa: E402
from filtersub.recipe_file import read_override, read_recipe  # noqa: E402
from filtersub.recipes import load_recipe  # noqa: E402
from filtersub.records import RECORD_FILE, Record, read_records  # noqa: E402
from filtersub.report.studies import study_sections  # noqa: E402
from filtersub.setting_fields import TuneFields  # noqa: E402
from filtersub.training import TrainingConfig  # noqa: E402

INPUTS = int(os.environ.get("FILTERSUB_FUZZ", "200"))
TESTS = 7  # the inputs are shared among the tests below


def fuzz(share=1.0):
    return settings(
        max_examples=max(1, round(INPUTS / (TESTS - 0.5) * share)),
        deadline=None,
        database=None,
        derandomize=INPUTS <= 200,  # the same inputs each time, but where more are asked for
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def one_line(error):
    """Whether an error of bad input is one clear line."""
    assert "\n" not in str(error).strip(), str(error)
    assert len(str(error)) < 2_000


text = st.text(max_size=12)
numbers = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([0, 2**31, 2**63, 2**64, 10**40]),
    st.floats(),
)
plain = st.one_of(st.none(), st.booleans(), numbers, text)
json_like = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))

WORDS = st.sampled_from(
    ["lasso", "pca", "omp", "fista", "ksvd", "online", "rows", "shared", "per-channel", "full", "lora"]
)
CONFIG = st.dictionaries(
    st.sampled_from([*DecompositionConfig.__dataclass_fields__, "learner", "atom"]),
    plain | WORDS | st.lists(numbers, max_size=3),
)
TUNING = st.dictionaries(
    st.sampled_from([*TuneFields.__dataclass_fields__, "epoch"]),
    plain | WORDS | st.lists(numbers, max_size=3),
    max_size=4,
)


def file_of(values):
    """The same values as a YAML file has them; None where YAML cannot write them."""
    try:
        return yaml.safe_dump(values, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        return None


@fuzz()
@given(values=CONFIG)
def test_settings_of_a_decomposition(values):
    with folder() as place:
        written = file_of(values)
        (place / "own.yaml").write_text(written, encoding="utf-8", errors="replace")
        try:
            DecompositionConfig(**read_recipe(place / "own.yaml"))
        except FiltersubError as error:
            one_line(error)


@fuzz()
@given(values=TUNING)
def test_recipes_of_a_training(values):
    entries = {name: {"value": value, "source": "mine"} for name, value in values.items()}
    with folder() as place:
        (place / "own.yaml").write_text(file_of({"settings": entries}), encoding="utf-8", errors="replace")
        try:
            load_recipe(place / "own.yaml").settings_with()
        except FiltersubError as error:
            one_line(error)


SPEC_KEYS = ["name", "title", "question", "stages", "stage"]
STAGE_KEYS = ["notebook", "parameters", "runs", "grid", "seeds", "skip", "only", "reads_records", "note"]
PARAMETERS = st.dictionaries(st.sampled_from(["atoms", "method", "block", "epochs", "solver", "atom"]), plain | WORDS)
STAGE_VALUES = {
    "notebook": st.sampled_from(["02_tuning", "01_decomposition", "09_generation", "02_tunin", "a/b.ipynb", ""]),
    "parameters": PARAMETERS,
    "runs": st.lists(PARAMETERS, max_size=3),
    "grid": st.dictionaries(st.sampled_from(["atoms", "rank", "rnk"]), st.lists(plain, max_size=3), max_size=2),
    "seeds": st.lists(st.integers(-1, 3), max_size=3),
    "skip": st.lists(st.dictionaries(st.sampled_from(["atoms", "method"]), json_like), max_size=2),
    "only": st.lists(PARAMETERS, max_size=2),
    "reads_records": st.booleans(),
}


@st.composite
def specs(draw):
    stages = []
    for _ in range(draw(st.integers(0, 2))):
        keys = draw(st.sets(st.sampled_from(STAGE_KEYS), max_size=4)) | {"notebook"}
        odd = draw(st.integers(0, 4)) == 0
        stages.append({key: draw(json_like if odd or key not in STAGE_VALUES else STAGE_VALUES[key]) for key in keys})
    content = {"name": "t", "title": "T", "question": "Q?", "stages": stages}
    if draw(st.integers(0, 4)) == 0:
        content[draw(st.sampled_from(SPEC_KEYS))] = draw(json_like)
    return content


@fuzz()
@given(content=specs())
def test_ablations(content):
    with folder() as place:
        (place / "own.yaml").write_text(file_of(content), encoding="utf-8", errors="replace")
        try:
            plan(load_spec(place / "own.yaml"), place / "out")
        except FiltersubError as error:
            one_line(error)
        assert not (place / "out").exists()


@fuzz()
@given(
    content=st.text(alphabet=string.printable, max_size=60) | st.text(alphabet="[]{}:,-&*!|>'\"? ab1.\n", max_size=60)
)
def test_files_that_are_hardly_yaml(content):
    with folder() as place:
        (place / "own.yaml").write_text(content)
        for read in (load_spec, read_recipe, load_recipe):
            try:
                read(place / "own.yaml")
            except FiltersubError as error:
                one_line(error)
        with contextlib.suppress(FiltersubError):
            read_override(content)


RECORD = {
    "kind": st.sampled_from(
        ["tuning", "decomposition", "penalty", "solvers", "sharing", "attribution", "generation", "own"]
    ),
    "label": text,
    "parameters": st.dictionaries(
        st.sampled_from(["method", "atoms", "block", "expansion", "data", "layers"]), json_like
    ),
    "seed": st.integers(0, 3),
    "metrics": st.dictionaries(st.sampled_from(["test_accuracy", "relative_error"]), st.floats(0, 1)),
    "counts": st.fixed_dictionaries(
        {"trainable": st.integers(0, 9), "head": st.integers(0, 9), "total": st.integers(0, 99)}
    ),
    "cost": st.dictionaries(st.sampled_from(["wall_seconds", "seconds_per_step"]), st.floats(0, 9)),
    "environment": st.dictionaries(st.sampled_from(["date", "versions", "hardware", "commit"]), json_like),
    "tables": st.dictionaries(
        st.sampled_from(["history", "curve"]), st.sampled_from(["t.csv", "../t.csv", "/t.csv", ""])
    ),
}


@st.composite
def records(draw):
    content = {name: draw(strategy) for name, strategy in RECORD.items()}
    for _ in range(draw(st.integers(0, 2))):
        change = draw(st.sampled_from([*RECORD, "colour"]))
        if draw(st.booleans()):
            content.pop(change, None)
        else:
            content[change] = draw(json_like)
    return content


@fuzz()
@given(contents=st.lists(records(), min_size=1, max_size=4), table=st.text(alphabet='am,1.\nx"-', max_size=30))
def test_records_and_their_tables(contents, table):
    with folder() as place:
        for number, content in enumerate(contents):
            (place / str(number)).mkdir()
            (place / str(number) / RECORD_FILE).write_text(json.dumps(content))
            (place / str(number) / "t.csv").write_text(table)
        found, damaged = read_records(place)
        assert len(found) + len(damaged) == len(contents)  # each is read or named
        for line in damaged.values():
            one_line(line)
        odd = []
        collection = collect(place)
        settings_table(tuning_table(collection.records))
        history_table(collection.records, odd)
        curve_table(collection.records, odd)
        study_sections(collection, odd)
        for record in found.values():
            again = Record(**{**vars(record), "tables": {}}).write(place / "again")
            assert again.metrics == record.metrics


UNTRIED = {"--help", "--obtain"}
#: what each command is given beside its options: files that are there, and files that are not, so that nothing trains
COMMANDS = {
    **{command: [arguments] for command, arguments in GIVEN.items()},
    "count": [["resnet18"], ["missing.safetensors"], []],
    "suggest": [["resnet18", "--budget", "5000"], GIVEN["suggest"]],
    "decompose": [["{place}/own.safetensors"], GIVEN["decompose"]],
    "ablate": [["{place}/own.yaml", "--out", "{place}/out", "--dry-run"], GIVEN["ablate"]],
    "report": [["{place}"]],
    "new": [["{place}/new"]],
    "check-notebook": [["{place}/own.yaml"]],
    "paper": [[]],
    "compile-kernels": [["extra"]],
    "data list": [[]],
    "data check": [["missing"]],
}


def leaves(command, name=""):
    """(name, command) of each command, those of groups too."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from leaves(inner, f"{name} {part}".strip())


#: of each command, all options but those that end in folders of the user or in a download
OPTIONS = {
    name: {o.opts[0]: o for o in command.params if o.param_type_name == "option" and o.opts[0] not in UNTRIED}
    for name, command in leaves(get_command(app))
}


def test_every_command_is_asked():
    assert set(COMMANDS) == set(OPTIONS)


VALUES = st.one_of(
    st.sampled_from(
        ["0", "-1", "1", "4", "1.5", "1e400", "nan", "2,3", "", "a", "[", "200%", "5k", "None", "../x", "loro"]
    ),
    st.integers(-(10**30), 10**30).map(str),
    st.text(alphabet=string.printable.replace("\x00", ""), max_size=6),
)


@st.composite
def calls(draw):
    """A command with up to three of its options; values of other kinds among them."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    arguments = [*command.split(), *draw(st.sampled_from(COMMANDS[command]))]
    options = OPTIONS[command]
    for name in draw(st.lists(st.sampled_from(sorted(options)), max_size=3, unique=True)) if options else []:
        option = options[name]
        arguments.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
        if not option.is_flag:
            arguments.append(draw(VALUES | WORDS | st.just(str(option.default))))
    if draw(st.integers(0, 9)) == 0:  # one too many, or an option that is not there
        arguments.insert(draw(st.integers(1, len(arguments))), draw(VALUES))
    return arguments


@fuzz(0.5)  # each takes a second, where the others take a hundredth
@given(arguments=calls())
def test_options_of_the_command_line(arguments):
    with folder() as place, contextlib.chdir(place):
        (place / "own.yaml").write_text(
            "name: t\ntitle: T\nquestion: Q?\nstages: [{notebook: 03_summary, reads_records: true}]"
        )
        save_file({"conv.weight": torch.linspace(-1, 1, 144).reshape(4, 4, 3, 3)}, place / "own.safetensors")
        done = CliRunner().invoke(app, [part.replace("{place}", str(place)) for part in arguments])
        if isinstance(done.exception, FiltersubError):
            one_line(done.exception)
        else:
            assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
            assert done.exit_code in (0, 2) or arguments[:2] == ["data", "check"], (arguments, done.output)
        assert not [path for path in place.rglob("*") if ".part" in path.name or path.name.startswith(".filtersub")]


CONFIGS = (
    BaselineOptions, DecompositionConfig, DenoisingConfig, FilterSubspaceConfig, MethodOptions, MethodSettings,
    TrainingConfig, TuneSettings,
)  # fmt: skip
REQUIRED = {FilterSubspaceConfig: {"target_modules": "all-linear"}}


@fuzz()
@given(data=st.data())
def test_settings_in_python(data):
    config = data.draw(st.sampled_from(CONFIGS))
    names = st.sampled_from([field.name for field in fields(getattr(config, "FLAT", config)) if field.init])
    values = data.draw(st.dictionaries(names, plain | WORDS | json_like, max_size=4))
    try:
        made = config(**{**REQUIRED.get(config, {}), **values})
    except FiltersubError as error:
        one_line(error)
    else:
        assert isinstance(made, config)
