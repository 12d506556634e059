"""A slice of the kill matrix (tests/torture.py, `make torture`), and a warm process whose parent dies early."""

import os
import subprocess
import sys

import pytest
from torture import COMMANDS, Trial, kill_once

from filtersub.ablation.warm_start import AVAILABLE

WAITING = """
import sys, time
from filtersub.ablation import warm_process
def imports():
    print(1, flush=True)
    time.sleep(600)
warm_process.preload = imports
warm_process.serve(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_report_is_made_again_as_if_nothing_had_happened(tmp_path):
    command = next(command for command in COMMANDS if command.name == "report")
    whole = Trial(command, tmp_path / "whole")
    seconds = whole.finish()
    trial = Trial(command, tmp_path / "killed")
    _, orphans, error = kill_once(trial, "parent", "SIGKILL", 0.7 * seconds)
    assert (orphans, error) == (0, "")
    assert trial.result() == whole.result()
    assert set(trial.leftovers()) <= set(whole.leftovers())


@pytest.mark.skipif(not AVAILABLE, reason="warm processes fork, which is sound on Linux alone")
def test_a_warm_process_whose_parent_dies_while_it_imports_ends_at_once(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path / "socket")], **pipes)
    assert process.stdout.readline() == b"1\n"
    process.stdin.close()
    assert process.wait(timeout=60) != 0
    process.stdout.close()
