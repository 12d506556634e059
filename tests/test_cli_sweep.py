"""Every numeric option of every command with values at and beyond the ends: one clear line, code 2, no file left."""

import inspect
import re
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from filtersub.cli import COMMANDS, app
from filtersub.errors import FiltersubError

LARGE = str(2**63)
#: of each kind of option; "1.5" and the empty text are no whole numbers
VALUES = {
    int: ["-1", "0", "1e400", LARGE, "1.5", "", "1_0", "٣"],
    float: ["-1", "0", "1e400", "nan", "inf", LARGE, "1_0", "٣"],
}
#: options whose text means numbers, by what it means
TEXTS = {"block": int, "expansion": int, "learning_rate": float, "rates": float, "budget": int}
#: what each command needs beside the option; no such file is there, so that an accepted value ends in a line about it
GIVEN = {
    "decompose": ["missing.safetensors"],
    "count": ["missing.safetensors"],
    "suggest": ["missing.safetensors", "--budget", "100"],
    "tune": ["efficientnet_lite0", "--data", "folder:missing", "--out", "out"],
    "ablate": ["missing.yaml", "--out", "out"],
    "generate-tune": ["missing", "--data", "missing", "--out", "out"],
    "generate": ["missing", "--prompts", "missing.txt", "--out", "out"],
    "distance": ["missing", "missing2"],
}
NONE_OR_MORE = {"seed", "max_rounds", "workers", "preview_every", "warmup_steps"}  # whole numbers that may be 0
ANY_FROM_0 = {"l1_penalty", "tol", "weight_decay", "warmup_epochs", "mixup", "cutmix"}
BELOW_A_LIMIT = {
    "update_dropout",
    "min_rate",
    "warmup_rate",
    "label_smoothing",
    "drop_path",
    "head_dropout",
    "condition_dropout",
}
ABOVE_0 = {"learning_rate", "head_learning_rate", "init_scale", "adapter_scale", "clip_norm"}
#: whole numbers that the data, the model or the machine limits later
UNBOUNDED = {
    "n_train",
    "block",
    "checkpoint_every",
    "preview_every",
    "sampling_steps",
    "steps",
    "warmup_steps",
    "patience",
}
UNBOUNDED |= {"top", "reference_images", "sampling_batch", "images"}
#: a setting that means nothing without another one is refused for that
NEEDS = {
    "adapter_scale": "is for lora",
    "update_dropout": "is for lora",
    "patience": "set validation",
    "rates": "choose",
}


def accepted(command, name, value):
    if name == "budget":
        return value == "1_0"  # digits in groups, as in 300_000
    if name == "guidance":
        return value in ("-1", "0", LARGE)
    if value == "-1":
        return False
    if value == "0":
        own = {("generate-tune", "block"), ("generate-tune", "images")}  # "0 for none"
        return name in NONE_OR_MORE | ANY_FROM_0 | BELOW_A_LIMIT or (command, name) in own
    if value == LARGE:
        return name in ANY_FROM_0 | ABOVE_0 | UNBOUNDED and (command, name) != ("suggest", "images")
    return False


def numeric(command):
    """(name, kind) of the options of a command that take numbers."""
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if not get_args(parameter.annotation):
            continue
        hint = (
            parameter.annotation.__origin__ if hasattr(parameter.annotation, "__metadata__") else parameter.annotation
        )
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        kind = TEXTS.get(name) or next((kind for kind in (int, float) if kind in kinds), None)
        if kind is not None:
            yield name, kind


def cases():
    known = {command.__name__.replace("_", "-"): command for command in COMMANDS}
    return [(name, option, kind) for name, command in known.items() for option, kind in numeric(command)]


def test_every_command_with_numbers_is_swept():
    assert {name for name, _, _ in cases()} == set(GIVEN)
    assert len(cases()) > 90


@pytest.mark.parametrize("command", GIVEN)
def test_numbers_at_and_beyond_the_ends(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {each.name: each.opts[0] for each in get_command(app).commands[command].params}
    wrong = []
    for _, name, kind in (case for case in cases() if case[0] == command):
        for value in VALUES[kind]:
            given = [part for part in GIVEN[command] if name != "budget" or part not in ("--budget", "100")]
            found = CliRunner().invoke(app, [command, *given, options[name], value])
            fault = _fault(command, name, value, found)
            wrong += [f"{options[name]} {value!r}: {fault}"] if fault else []
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.rglob("*"))


def _fault(command, name, value, found):
    """What is wrong with an answer; empty where nothing is."""
    if isinstance(found.exception, SystemExit):
        said = " ".join(re.sub("[│╭╮╰╯─]", " ", found.output).split())
        if found.exit_code != 2:
            return f"exit code {found.exit_code}"
    elif isinstance(found.exception, FiltersubError):
        said = str(found.exception)
        if "\n" in said:
            return f"more than one line: {said}"
    else:
        return f"no clear line: {found.exception!r}"
    missing = "missing" in said or NEEDS.get(name, "\0") in said
    named = any(word in said.replace("-", "_").replace(" ", "_") for word in (name, *_WORDS.get(name, ())))
    if accepted(command, name, value):
        return "" if missing or named else f"refused without its name: {said}"
    return "" if named and "No such" not in said and "no file" not in said else f"not refused by its name: {said}"


_WORDS = {
    "atoms": ("number_of_atoms",),
    "nonzeros": ("number_of_nonzeros",),
    "depthwise_rank": ("rank_of_depthwise",),
    "oft_block": ("block_size_of_oft",),
    "boft_block": ("block_size_of_boft",),
    "reduction": ("reduction_of_conv_adapter",),
    "rates": ("learning_rate",),
}


def test_the_files_of_the_sweep_are_not_there():
    assert not Path("missing").exists()
