"""A container's quota of processor time: as many threads as it has cores, not as many as the machine has."""

import os
import subprocess
import sys

import pytest
import torch
import typer.testing

from filtersub.cli import app
from filtersub.processes import keep_to_quota

IN_A_CONTAINER = (
    'mount --bind "$0" /sys/fs/cgroup && exec "$1" -c "from filtersub.processes import cores; print(cores())"'
)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("quota", "expected"), [("100000 100000", 1), ("max 100000", len(os.sched_getaffinity(0)))])
def test_the_quota_is_that_of_the_container(tmp_path, quota, expected):
    """What the kernel shows inside one, where a namespace of mounts can be had."""
    (tmp_path / "cpu.max").write_text(quota)
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", IN_A_CONTAINER, tmp_path, sys.executable]
    try:
        said = subprocess.run(private, capture_output=True, text=True)
    except OSError:
        pytest.skip("no unshare here")
    if "mount" in said.stderr or "unshare" in said.stderr:
        pytest.skip("no file system may be mounted here")
    assert said.stdout == f"{expected}\n", said.stderr


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("given", "expected"), [(None, 3), ("5", 5)])
def test_torch_keeps_to_it_unless_a_user_says_otherwise(monkeypatch, given, expected):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    keep_to_quota()
    assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "words",
    [
        ["tune", "no-model", "--out", "o"],
        ["decompose", "no-model"],
        ["distance", "none", "none"],
        ["generate", "none", "--prompts", "p", "--out", "o"],
        ["generate-tune", "none", "--data", "none", "--out", "o"],
    ],
)
def test_commands_and_notebooks_that_compute_keep_to_it(monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    assert typer.testing.CliRunner().invoke(app, words).exit_code != 0  # the model is not there
    assert torch.get_num_threads() == 1
