"""``filtersub check-notebook``: every fault at once, in words, and yes only to what a run takes."""

import json

import pytest
from test_ablation import PARAMETERS, WORK, write_notebook
from typer.testing import CliRunner

from filtersub.ablation.notebook_contract import check_parameters, notebook_faults, notebook_parameters
from filtersub.ablation.parameters_cell import in_words
from filtersub.cli import app
from filtersub.errors import FiltersubError

OWN = "rate = 0.5\nout_dir = '.'\n"
USE = "print(rate)\n" + WORK

FAULTS = {  # (parameters cell, other cells): what is said
    "a type that is not imported": (
        ("block: Optional[int] = None\n" + OWN, "print(block)\n" + USE),
        ["uses Optional, which is not imported; begin the cell with 'from typing import Optional'"],
    ),
    "a text beside a bar": (
        ('block: "int" | None = None\n' + OWN, "print(block)\n" + USE),
        ["its parameter 'block': the type \"'int' | None\" cannot be evaluated"],
    ),
    "no literals": (
        ("rate = 1 / 2\nsize = int(3)\nout_dir = '.'", USE),
        ["line 1 computes 'rate': 1 / 2", "line 2 computes 'size': int(3)"],
    ),
    "no value": (("size: int\n" + OWN, USE), ["line 1 gives 'size' no value"]),
    "twice": (("rate = 1\n" + OWN, USE), ["gives 'rate' twice"]),
    "other statements": (
        ("import torch\nfrom math import pi\nif True:\n    pass\n" + OWN, USE),
        ["line 1 imports torch", "line 2 imports math", "line 3 is no plain assignment"],
    ),
    "types": (
        ("a: np.float64 = 1.0\nb: list[Rate] = []\n" + OWN, "print(a, b)\n" + USE),
        ["its parameter 'a': the type 'np.float64' is none", "its parameter 'b': the type 'Rate' is none"],
    ),
    "not Python": (("rate = = 1", USE), ["its parameters cell is no Python: invalid syntax (line 1)"]),
    "another value": (
        (OWN, "rate = 0.1\n" + USE),
        ["cell 3 gives its parameter 'rate' another value before anything uses it: a run that sets it would"],
    ),
    "another folder": (
        (OWN, "out_dir = 'mine'\n" + USE),
        ["cell 3 gives its parameter 'out_dir' another value before anything uses it: the runner looks elsewhere"],
    ),
    "only printed": ((OWN, "print(rate, out_dir)"), ["no call is given out_dir"]),
    "a cell that is no Python": ((OWN, USE, "1 +"), ["cell 4 is no Python"]),
    "not used": (("rest = 1\n" + OWN, USE), ["no cell uses its parameter 'rest'"]),
}

TAKEN = {  # (parameters cell, other cells)
    "imported types": ("import typing as t\nsize: t.Optional[int] = None\n" + OWN, "print(size)\n" + USE),
    "types in quotes": ("size: 'Optional[int]' = None\n" + OWN, "print(size)\n" + USE),
    "annotations that are never evaluated": (
        "from __future__ import annotations\nsize: Optional[int] = None\n" + OWN,
        "print(size)\n" + USE,
    ),
    "all variables at once": (OWN, "def run(values): ...\nrun(globals())\n" + WORK.replace("rate", "r")),
    "magics": (OWN, "%matplotlib inline\n!echo {rate}\nfiles = !ls\nprint?\n", WORK.replace("rate", "r")),
    "cell magics": (OWN, "%%bash\nif true; then echo $rate; fi", WORK.replace("rate", "r")),
    "a wait": (OWN, "import asyncio\nawait asyncio.sleep(0)\n" + USE),
    "a value made of itself": (OWN, "rate = float(rate)\n" + USE),
    "a value over lines": ("rate = [\n    1,  # = one\n    2,\n]  # rates\nout_dir = '.'", USE),
    "comments with = and |": (PARAMETERS, "print(size)\n" + WORK),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named(name, tmp_path):
    (parameters, *cells), said = FAULTS[name]
    found = notebook_faults(write_notebook(tmp_path / "a.ipynb", parameters, *cells))
    for part in said:
        assert sum(part in fault for fault in found) == 1, found
    assert all("a.ipynb" not in fault for fault in found)  # the command names the file


def test_all_faults_are_named_at_once(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "size: Optional[int] = 1\nrate = 2 * 3\nrest = 1", "1 +", "print(size)")
    found = notebook_faults(path)
    for part in (
        "Optional",
        "line 2 computes 'rate'",
        "no 'out_dir'",
        "cell 3 is no Python",
        "uses its parameter 'rest'",
    ):
        assert any(part in fault for fault in found)
    assert len(found) == 5
    with pytest.raises(FiltersubError, match=r"a.ipynb: its parameter 'size'.* \(1 more: filtersub check-notebook"):
        notebook_parameters(path)


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_kernel_runs_is_no_fault(name, tmp_path):
    parameters, *cells = TAKEN[name]
    path = write_notebook(tmp_path / "a.ipynb", parameters, *cells)
    assert notebook_faults(path) == []
    assert "out_dir" in notebook_parameters(path)


def test_files_that_are_no_notebooks_hide_no_other_files_faults(tmp_path):
    good = write_notebook(tmp_path / "good.ipynb", OWN, USE)
    bad = write_notebook(tmp_path / "bad.ipynb", "rest = 1\n" + OWN, USE)
    broken = tmp_path / "broken.ipynb"
    for content in ("{", "[]", "{}", '{"nbformat": 4}', '{"nbformat": 4, "cells": [{"cell_type": "code"}]}', '"text"'):
        broken.write_text(content)
        with pytest.raises(FiltersubError, match=r"broken.ipynb is not a readable notebook"):
            notebook_faults(broken)
    broken.write_text("# A page of words")
    said = CliRunner().invoke(app, ["check-notebook", str(broken), str(tmp_path / "gone.ipynb"), str(bad), str(good)])
    assert said.exit_code == 2
    for part in (
        f"{broken} is not a readable notebook: it is no JSON",
        "no notebook at",
        "bad.ipynb: no cell uses its parameter 'rest'",
    ):
        assert part in said.stderr
    assert f"{good}: keeps the contract" in said.stdout


def test_a_notebook_of_an_older_format_is_read(tmp_path):
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {},
        "worksheets": [{"cells": [{"cell_type": "code", "input": ["1 + 1"], "outputs": [], "language": "python"}]}],
    }
    (tmp_path / "old.ipynb").write_text(json.dumps(old))
    assert any("0 cells tagged 'parameters'" in fault for fault in notebook_faults(tmp_path / "old.ipynb"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int | None", "int or None"),
        ("Optional[int]", "int or None"),
        ("typing.Optional[list[int]]", "list[int] or None"),
        ("Union[float, str, None]", "float or str or None"),
        ("Optional[Union[int, str]]", "int or str or None"),
        ("dict[str, Optional[int]]", "dict[str, Optional[int]]"),
        ("any", "any"),
    ],
)
def test_types_are_told_in_words(kind, words):
    assert in_words(kind) == words
    if kind != "any":
        with pytest.raises(FiltersubError, match=f"x must be {words}".replace("[", r"\[")):
            check_parameters({"x": {"a": "b"}}, {"x": (kind, None)}, "a")
