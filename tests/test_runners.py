"""The notebooks by other runners than ours: papermill's own command, ``jupyter execute``, ``jupyter nbconvert``."""

import ast
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as command

from filtersub.ablation.notebook_contract import notebook_parameters
from filtersub.errors import FiltersubError
from filtersub.files import find_folder

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FOLDERS = ("out_dir", "records_dir")


def texts_of(path, kind):
    cells = nbformat.read(path, as_version=4).cells
    return [out for cell in cells for out in cell.get("outputs", []) if kind in (out.get("name"), out.output_type)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_every_parameter_as_the_ablations_do(path, caplog):
    with caplog.at_level(logging.WARNING):
        found = papermill.inspect_notebook(path)
    assert caplog.messages == []
    own = notebook_parameters(path)
    assert list(found) == list(own)
    for name, (kind, default) in own.items():
        assert ast.literal_eval(found[name]["default"]) == default
        assert found[name]["help"], name
        assert found[name]["inferred_type_name"] in (kind, "None")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_folders_lie_below_the_working_directory(path):
    for name, (_, default) in notebook_parameters(path).items():
        if name in FOLDERS and default is not None:
            assert Path(default).parts[0] == "reports"
            assert ".." not in Path(default).parts


def test_the_help_of_a_notebook_shows_what_it_takes():
    shown = CliRunner().invoke(command, ["--help-notebook", str(ROOT / "notebooks" / "02_tuning.ipynb")])
    assert shown.exit_code == 0
    known = notebook_parameters(ROOT / "notebooks" / "02_tuning.ipynb")
    assert re.findall(r"^  (\w+): ", shown.output, re.MULTILINE) == list(known)
    assert "block: Optional[int] (default None)" in shown.output


def test_a_folder_is_found_from_below(tmp_path, monkeypatch):
    (tmp_path / "reports" / "here").mkdir(parents=True)
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    for place in (".", "notebooks", "notebooks/deep"):
        monkeypatch.chdir(tmp_path / place)
        assert find_folder("reports/here") == tmp_path / "reports" / "here"
    assert find_folder(tmp_path / "reports") == tmp_path / "reports"
    (tmp_path / "notebooks" / "reports" / "here").mkdir(parents=True)
    assert find_folder("reports/here") == tmp_path / "notebooks" / "reports" / "here"  # the nearest
    with pytest.raises(FiltersubError, match=f"no folder reports/gone in {tmp_path}"):
        find_folder("reports/gone")
    with pytest.raises(FiltersubError, match=f"no folder {tmp_path}/gone;"):
        find_folder(tmp_path / "gone")


@pytest.fixture
def checkout(tmp_path):
    """A folder with the notebook that only reads records, and the sample's records where it looks for them."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "03_summary.ipynb", tmp_path / "notebooks")
    shutil.copytree(ROOT / "reports" / "sample", tmp_path / "reports" / "quickstart")
    return tmp_path


@pytest.mark.notebook
def test_papermills_command_runs_a_notebook_from_any_folder_without_a_warning(checkout, monkeypatch, caplog):
    """The parameters by option, as a shell gives them; then the executed notebook as a page by nbconvert."""
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")
    arguments = ["../notebooks/03_summary.ipynb", "out.ipynb", "-p", "out_dir", "made", "--no-progress-bar"]
    with caplog.at_level(logging.WARNING):
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert [record.message for record in caplog.records if record.name.startswith("papermill")] == []
    assert texts_of("out.ipynb", "stderr") == []
    assert (checkout / "elsewhere" / "made" / "runs.csv").is_file()
    run = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "out.ipynb"]
    subprocess.run(run, check=True, capture_output=True)
    page = (checkout / "elsewhere" / "out.html").read_text()
    assert page.count("<figure") == len(re.findall("plots.show", (ROOT / "notebooks" / "03_summary.ipynb").read_text()))


@pytest.mark.notebook
def test_jupyter_execute_runs_a_notebook_as_it_is(checkout):
    """Its kernel starts beside the notebook: records are found in the folder above, results stay below."""
    run = [sys.executable, "-m", "jupyter", "execute", "notebooks/03_summary.ipynb", "--output", "done"]
    subprocess.run(run, check=True, capture_output=True, cwd=checkout, env={**os.environ})
    assert texts_of(checkout / "notebooks" / "done.ipynb", "error") == []
    assert texts_of(checkout / "notebooks" / "done.ipynb", "stderr") == []
    assert (checkout / "notebooks" / "reports" / "scratch" / "summary" / "runs.csv").is_file()
    assert json.loads((checkout / "notebooks" / "03_summary.ipynb").read_text())["cells"][1]["outputs"] == []


@pytest.mark.skipif(os.name == "nt", reason="a loop of sh")
def test_the_loops_of_the_guide_give_each_run_its_parameters(tmp_path, monkeypatch):
    """The guide's own text and papermill's own command; the runs are prepared, not executed, to save their minutes."""
    guide = (ROOT / "docs" / "runners.md").read_text()
    (in_shell,), (in_python,) = (re.findall(rf"```{kind}\n(.*?)```", guide, re.DOTALL) for kind in ("sh", "python"))
    for name in ("shell", "python", "bin"):
        (tmp_path / name).mkdir()
        os.symlink(ROOT / "notebooks", tmp_path / name / "notebooks")
    for name, line in (("papermill", f'{sys.executable} -m papermill "$@" --prepare-only'), ("filtersub", 'echo "$@"')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    shell = subprocess.run(
        ["sh", "-ec", in_shell], cwd=tmp_path / "shell", env=path, capture_output=True, text=True, check=True
    )
    assert shell.stdout == "report runs\n"
    assert "unknown parameter" not in shell.stderr
    monkeypatch.chdir(tmp_path / "python")
    monkeypatch.setattr(papermill, "execute_notebook", partial(papermill.execute_notebook, prepare_only=True))
    exec(compile(in_python, "docs/runners.md", "exec"), {})
    for name in ("shell", "python"):
        for atoms in (6, 9):
            prepared = nbformat.read(tmp_path / name / "runs" / f"atoms{atoms}.ipynb", as_version=4)
            passed = prepared.metadata.papermill.parameters
            assert passed == {"atoms": atoms, "out_dir": f"runs/atoms{atoms}"}
            assert [cell.metadata.get("tags") for cell in prepared.cells[1:3]] == [
                ["parameters"],
                ["injected-parameters"],
            ]
