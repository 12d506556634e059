"""The door of records: numbers of any library go in as numbers, odd records are named by file, field and value."""

import json
import os
import resource
import stat
import subprocess
from decimal import Decimal
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import filtersub.records as records
from filtersub.errors import FiltersubError
from filtersub.files import atomic_write, plain_json
from filtersub.records import Record, describe_environment, read_record, read_records, read_table


def record(**changes):
    empty = {"metrics": {}, "counts": {}, "cost": {}, "environment": {}}
    return Record(**{"kind": "own", "label": "own", "parameters": {}, "seed": 0, **empty, **changes})


NUMBERS = {
    "float32": (np.float32(0.5), 0.5),
    "float16": (np.float16(0.25), 0.25),
    "longdouble": (np.longdouble(0.5), 0.5),
    "0-d array": (np.array(0.5), 0.5),
    "tensor": (torch.tensor(0.5), 0.5),
    "bfloat16": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    "mean of a column": (pd.Series([0.25, 0.75]).mean(), 0.5),
    "int64": (np.int64(3), 3),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_other_libraries_are_written_as_numbers(name, tmp_path):
    given, wanted = NUMBERS[name]
    parameters = {"list": [given, (given,)], "array": np.array([1, 2]), "flag": np.bool_(True), "path": Path("a")}
    written = record(metrics={"value": given}, parameters=parameters, seed=np.int32(7)).write(tmp_path)
    content = json.loads((tmp_path / "record.json").read_text())
    assert content["metrics"]["value"] == wanted
    assert content["parameters"] == {"list": [wanted, [wanted]], "array": [1, 2], "flag": True, "path": "a"}
    assert content["seed"] == 7
    assert read_record(tmp_path) == written


REFUSED = {
    "NaN": ({"metrics": {"loss": float("nan")}}, "metrics.loss is nan"),
    "infinity": ({"cost": {"wall_seconds": np.float32("inf")}}, "cost.wall_seconds is inf"),
    "deep": ({"parameters": {"a": [{"b": np.nan}]}}, r"parameters.a\[0\].b is nan"),
    "a set": ({"parameters": {"layers": {1}}}, "parameters.layers is a set"),
    "complex": ({"metrics": {"z": 1j}}, "metrics.z is a complex"),
    "decimal": ({"metrics": {"z": Decimal(1)}}, "metrics.z is a Decimal"),
    "text": ({"metrics": {"accuracy": "0.5"}}, "metrics.accuracy should be a valid number, got '0.5'"),
    "percent": ({"metrics": {"test_accuracy": 50.0}}, "test_accuracy is 50, and accuracies are .*write 0.5 for 50 %"),
    "negative": ({"metrics": {"class_accuracy": -0.1}}, "class_accuracy is -0.1"),
    "half a parameter": ({"counts": {"head": 1.5}}, "counts.head should be a whole number, got 1.5"),
    "no total": ({"kind": "tuning", "metrics": {"test_accuracy": 0.5}}, "counts.trainable is missing"),
    "a table elsewhere": ({"tables": {"own": "../other/history.csv"}}, "tables.own is '../other/history.csv'"),
    "a table of the machine": ({"tables": {"own": "/etc/passwd"}}, "tables.own is '/etc/passwd'"),
    "a table of another drive": ({"tables": {"own": "C:\\a.csv"}}, "tables.own is"),
    "a large seed": ({"seed": 2**70}, "seed should be less than or equal to"),
    "no date": ({"environment": {"date": "yesterday"}}, "environment.date is 'yesterday'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_record_may_hold_is_named_and_no_record_is_written(name, tmp_path):
    changes, message = REFUSED[name]
    with pytest.raises(FiltersubError, match=message):
        record(**changes).write(tmp_path, history=pd.DataFrame({"epoch": [1]}))
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]  # what was computed is there


DAMAGED = {
    "cut": '{"kind": "tuning"',
    "a list": "[]",
    "NaN": '{"a": NaN}',
    "deep": "[" * 100_000,
    "digits": "1" * 5_000,
    "surrogate": '{"kind": "own", "label": "\\ud800"}',
    "no UTF-8": b"\xff\xfe",
    "missing": '{"kind": "own"}',
    "unknown": '{"colour": 1}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_one_line_and_the_others_are_read(name, tmp_path):
    record().write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    content = DAMAGED[name]
    (tmp_path / "bad" / "record.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    found, damaged = read_records(tmp_path)
    assert list(found) == [tmp_path / "good"]
    (line,) = damaged.values()
    assert line.startswith(f"{tmp_path / 'bad' / 'record.json'} is not a readable record")
    assert "\n" not in line


def test_a_folder_without_a_record_is_named_with_what_to_give(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(FiltersubError) as error:
            read_record(folder)
        said = f"there is no record in {folder}; name the folder of a finished run, which holds record.json"
        assert str(error.value) == said


def test_hidden_folders_hold_no_runs(tmp_path):
    for name in (".r0.123.part", "runs/.a.5.part/b", ".ipynb_checkpoints", "runs/a"):
        record().write(tmp_path / name)
    assert list(read_records(tmp_path)[0]) == [tmp_path / "runs" / "a"]
    assert len(read_records(tmp_path / ".r0.123.part")[0]) == 1  # a folder that is asked for by name


def test_a_table_that_is_a_link_out_of_its_folder_is_refused(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    record(tables={"t": "t.csv"}).write(tmp_path / "run")
    (tmp_path / "run" / "t.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(FiltersubError, match=r"tables\.t 't\.csv' is a link out of its folder"):
        read_record(tmp_path / "run")


def test_texts_of_a_table_come_back_as_they_were(tmp_path):
    words = ["NA", "None", "null", "nan", "n/a", "NULL", "-", "a,b"]
    codes = ["01", "1", "007", "-08", "0", "10", "0.5", "00"]  # of classes, say
    numbers = {
        "value": [1.5, None, *range(6)],
        "count": range(8),
        "share": [0.5, -0.25, 1e-7, 0.0, 1.0, 2.0, 3.0, 4e10],
    }
    table = pd.DataFrame({"word": words, "code": codes, "none": [None] * 8, **numbers})
    record().write(tmp_path, words=table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "words.csv"), table.astype({"none": float}))


@pytest.mark.parametrize("text", ["", "a\n1,2,3\n4\n", b"\xff\xfe\x00"])
def test_a_table_that_is_none_is_one_line(text, tmp_path):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    if text and isinstance(text, str):
        return  # pandas reads ragged rows as an index
    with pytest.raises(FiltersubError, match="is not a readable table"):
        read_table(tmp_path / "t.csv")


def raising(error):
    def instead(*arguments, **options):
        raise error

    return instead


TROUBLES = {
    "git hangs": ("subprocess.run", subprocess.TimeoutExpired("git", 10)),
    "no git": ("subprocess.run", FileNotFoundError("git")),
    "git fails": ("subprocess.run", subprocess.CalledProcessError(128, "git")),
    "no memory to fork": ("subprocess.run", BlockingIOError("fork")),
    "git speaks no UTF-8": ("subprocess.run", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd")),
    "a driver": ("torch.cuda.is_available", RuntimeError("no driver")),
    "damaged metadata": ("version", metadata.PackageNotFoundError("torch")),
    "odd metadata": ("version", KeyError("Version")),
    "no processor": ("processor", PermissionError("/proc/cpuinfo")),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_environment_is_described_whatever_fails(name, tmp_path, monkeypatch):
    where, error = TROUBLES[name]
    owner, _, attribute = where.rpartition(".")
    owner = {"": records, "subprocess": records.subprocess, "torch.cuda": torch.cuda}[owner]
    monkeypatch.setattr(owner, attribute, raising(error))
    described = describe_environment()
    assert described["hardware"]["threads"] == torch.get_num_threads()
    assert read_record(record(environment=described).write(tmp_path) and tmp_path).environment == described


def test_a_slow_status_keeps_the_commit(monkeypatch):
    def run(command, **options):
        if "status" in command:
            raise subprocess.TimeoutExpired(command, 10)
        return subprocess.CompletedProcess(command, 0, stdout="0123456789ab\n")

    monkeypatch.setattr(records.subprocess, "run", run)
    described = describe_environment()
    assert (described["commit"], described["dirty"]) == ("0123456789ab", None)


def test_names_are_texts():
    assert plain_json({1: np.float32(0.5), np.int64(2): None}) == {"1": 0.5, "2": None}
    with pytest.raises(ValueError, match="has the name"):
        plain_json({"a": {(1, 2): 3}})


WRITERS = {
    "text": lambda path: path.write_text("x" * 100_000),
    "a table": lambda path: pd.DataFrame({"a": range(50_000)}).to_csv(path),
    "safetensors": lambda path: save_file({"a": torch.zeros(50_000)}, path),
    "torch": lambda path: torch.save({"a": torch.zeros(50_000)}, path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_has_no_room_is_one_line_and_leaves_the_older_file(kind, tmp_path):
    """The system itself refuses to write past a limit, in the middle of the file."""
    (tmp_path / "file").write_text("older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with (
            pytest.raises(FiltersubError, match=r"^cannot write .*/file: .*; make room, then run the same command"),
            atomic_write(tmp_path / "file") as aside,
        ):
            WRITERS[kind](aside)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "older"


def test_errors_that_are_not_about_writing_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="of the network"), atomic_write(tmp_path / "file"):
        raise RuntimeError("of the network")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077], ids=oct)
@pytest.mark.parametrize("kind", WRITERS)
def test_any_file_may_be_read_by_whom_the_umask_lets(kind, umask, tmp_path):
    """safetensors 0.8 makes files that their owner alone may read: nobody else could load the weights."""
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as aside:
            WRITERS[kind](aside)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
