"""A working folder that was deleted is one line and exit code 2, before and while a command runs."""

import os
import subprocess
import sys

import pytest

from filtersub.cli import COMMANDS, main

ARGUMENTS = {
    "decompose": ["efficientnet_lite0"],
    "count": ["resnet18"],
    "suggest": ["resnet18", "--budget", "100"],
    "tune": ["efficientnet_lite0", "--out", "out"],
    "ablate": ["quickstart", "--out", "out"],
    "report": ["out"],
    "new": ["own"],
    "check-notebook": ["a.ipynb"],
    "paper": [],
    "generate-tune": ["pipe", "--data", "data", "--out", "out"],
    "generate": ["pipe", "--prompts", "p.txt", "--out", "out"],
    "distance": ["a", "b"],
    "compile-kernels": [],
    "data": ["list"],
}


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def said(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["filtersub", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_every_command_is_tried():
    assert {command.__name__.replace("_", "-") for command in COMMANDS} | {"data"} == set(ARGUMENTS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_deleted_before(command, working_folder, monkeypatch, capsys):
    working_folder.rmdir()
    code, texts = said(monkeypatch, capsys, command, *ARGUMENTS[command])
    assert code == 2
    assert texts.out == ""
    assert texts.err == (
        "filtersub: the working folder was deleted; cd into one that is there, then run the command again\n"
    )


def test_deleted_while_it_runs(working_folder, monkeypatch, capsys):
    import filtersub.report

    def deleted(*_, **__):
        working_folder.rmdir()
        return os.path.abspath("index.html")

    monkeypatch.setattr(filtersub.report, "write_report", deleted)
    code, texts = said(monkeypatch, capsys, "report", "out")
    assert code == 2
    assert texts.err.startswith("filtersub: the working folder was deleted")
    assert texts.err.count("\n") == 1


def test_another_missing_file_is_not_taken_for_it(working_folder, monkeypatch):
    import filtersub.report

    def failing(*_, **__):
        raise FileNotFoundError(2, "No such file", "x")

    monkeypatch.setattr(filtersub.report, "write_report", failing)
    monkeypatch.setattr(sys, "argv", ["filtersub", "report", "out"])
    with pytest.raises(FileNotFoundError):
        main()


def test_a_process_that_starts_in_a_deleted_folder(working_folder):
    code = "import os, runpy, sys; os.rmdir(os.getcwd()); sys.argv = ['filtersub', 'data', 'list']; " + (
        "runpy.run_module('filtersub', run_name='__main__')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("\n") == 1
    assert "the working folder was deleted" in found.stderr
