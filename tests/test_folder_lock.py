"""One writer a folder: who holds it is named, the dead hold nothing, and what they left is swept up."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.files import atomic_write
from filtersub.folder_lock import locked, locks, socket_prefix, sweep
from filtersub.processes import is_running

HOLD = """
import sys, time
from filtersub.folder_lock import locked
with locked(sys.argv[1]):
    print(1, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.wait()


COMMANDS = {
    "tune": ("tune", "efficientnet_lite0", "--out"),
    "ablate": ("ablate", "quickstart", "--out"),
    "decompose": ("decompose", "efficientnet_lite0", "--solver", "pca", "--out"),
}


def test_the_second_writer_is_told_who_holds_the_folder_and_the_dead_hold_nothing(holder, tmp_path):
    for command in COMMANDS.values():
        said = CliRunner().invoke(app, [*command, str(tmp_path / "out")])
        assert isinstance(said.exception, FiltersubError)
        assert f"process {holder.pid} writes into {tmp_path / 'out'} (" in str(said.exception)
    (tmp_path / "out" / f".record.json.{holder.pid}.part").write_text("half")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_is_held_by_one_thread_which_may_ask_again(tmp_path):
    refused = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except FiltersubError as error:
            refused.append(str(error))

    with locked(tmp_path), locked(tmp_path / "sub" / ".."):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()} writes into" in refused[0]
    other()
    assert len(refused) == 1
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_function_holds_its_folder_and_leaves_none_where_it_failed(tmp_path):
    @locks("out")
    def work(fail, out=None):
        """Words."""
        if out is not None:
            assert list(Path(out).glob(".filtersub.lock*"))
        if fail:
            raise FiltersubError("no")
        return "done"

    assert (work.__name__, work.__doc__) == ("work", "Words.")
    assert work(False) == "done"
    assert work(False, tmp_path / "a") == "done"
    with pytest.raises(FiltersubError, match="no"):
        work(True, out=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    dead = ended()
    left = [tmp_path / f".a.json.{dead}.part", tmp_path / "runs" / "b" / f".record.json.{dead}.part"]
    left += [tmp_path / "runs" / f".r0.{dead}.part" / "record.json", tmp_path / "tmp" / f"fs-{dead}-x" / "kernel"]
    kept = [tmp_path / "a.json", tmp_path / ".part", tmp_path / ".notes.part", tmp_path / "b.part"]
    kept += [tmp_path / "tmp" / f"{socket_prefix()}x" / "kernel", tmp_path / "tmp" / "fs-other"]
    for path in left + kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with atomic_write(tmp_path / "now.json") as aside:
        aside.write_text("x")
        sweep(tmp_path)
        assert aside.exists()
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in kept)
    assert not (tmp_path / "runs" / f".r0.{dead}.part").exists()


def test_an_id_that_was_given_anew_is_another_process():
    assert is_running(os.getpid(), since=2e9)
    assert not is_running(os.getpid(), since=0.0)
    assert not is_running(ended(), since=2e9)
