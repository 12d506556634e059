"""A notebook that imports Python files beside it: they are part of what a run is, and importable where it runs."""

import os
import re
from pathlib import Path

import pytest
import torch
from test_ablation import PARAMETERS, WORK, spec_of, write_notebook

import filtersub
from filtersub.ablation import is_finished, plan, run_ablation
from filtersub.ablation.own_files import own_files
from filtersub.models import head_name, load_model


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import nets", ["nets.py", "parts.py"]),
        ("from nets import Net\nimport torch", ["nets.py", "parts.py"]),
        ("import torch, parts as p", ["parts.py"]),
        ("    from pack.inner import thing", ["pack/__init__.py", "pack/inner.py"]),
        ("import torch\nnets = 1\nfrom filtersub import tune", []),
        ("%matplotlib inline\nimport parts", ["parts.py"]),
        ("from scripts.load import images", ["scripts/load.py"]),  # a folder without __init__.py
        ("import yaml", []),  # which is installed: Python passes a folder over that has no __init__.py
    ],
)
def test_files_that_the_code_imports_and_those_that_they_import(code, found, tmp_path):
    for name, text in (("nets.py", "import parts\nimport nets"), ("parts.py", ""), ("other.py", ""), ("torch.txt", "")):
        (tmp_path / name).write_text(text)
    for name in ("pack/__init__.py", "pack/inner.py", "filtersub/__init__.py", "scripts/load.py", "yaml/of_images.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in own_files(tmp_path, [code])] == found


def test_a_changed_file_beside_the_notebook_makes_its_runs_anew_and_a_comment_does_not(tmp_path):
    (tmp_path / "nets.py").write_text("width = 3")
    importing = write_notebook(tmp_path / "one.ipynb", PARAMETERS, "from nets import width", WORK)
    alone = write_notebook(tmp_path / "two.ipynb", PARAMETERS, WORK)

    def names():
        return [run.run_id for notebook in (importing, alone) for run in plan(spec_of(notebook), tmp_path / "out")]

    before = names()
    (tmp_path / "nets.py").write_text("width = 3  # channels")
    assert names() == before
    (tmp_path / "nets.py").write_text("width = 4")
    assert [name == other for name, other in zip(names(), before, strict=True)] == [False, True]


@pytest.mark.notebook
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.usefixtures("shared_warm_process")
def test_a_run_imports_files_beside_its_notebook(tmp_path):
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "my_numbers.py").write_text("rate = 0.25")
    cell = "from my_numbers import rate"
    spec = spec_of(write_notebook(tmp_path / "beside" / "own.ipynb", PARAMETERS, cell, WORK))
    assert not run_ablation(spec, tmp_path / "out").failed
    (run,) = plan(spec, tmp_path / "out")
    assert is_finished(run)


def test_a_network_of_ones_own_is_taken_by_its_name(tmp_path, monkeypatch):
    """The file of docs/own.md, imported as a notebook or script does; the settings there are made, not run."""
    guide = (Path(__file__).parents[1] / "docs" / "own.md").read_text(encoding="utf-8")
    _, network, use = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    (tmp_path / "my_network.py").write_text(network)
    made = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(filtersub, "tune", lambda settings, out: made.append(settings), raising=False)
    exec(compile(use, "docs/own.md", "exec"), {})
    model = load_model(made[0].model, pretrained=False, num_classes=7)
    assert model(torch.zeros(2, 3, 24, 24)).shape == (2, 7)
    assert head_name(model) == "fc"
