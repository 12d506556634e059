"""What a dry run keeps on disk: the same answer without torch, and none that is out of date."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from filtersub.ablation import kept_results, list_runs, load_spec
from filtersub.ablation.dry_run import is_of_library
from filtersub.ablation.kept_results import KeptResults, cache_file, stamp
from filtersub.parameters import count_parameters

SPEC = (
    "name: birds\ntitle: Birds\nquestion: How many?\nstages:\n  - notebook: 02_tuning\n"
    "    parameters: {data: 'folder:birds'}\n    grid: {atoms: [6, 9]}\n    seeds: [0, 1]\n"
)


@pytest.fixture
def kept_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_results, "cache_file", cache_file)
    return cache_file()


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "birds" / name).mkdir(parents=True)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return load_spec(tmp_path / "spec.yaml")


def counts(spec, tmp_path):
    return [(run["trainable"], run["head"]) for run in list_runs(spec, tmp_path / "out").to_json()["runs"]]


def test_a_second_dry_run_says_the_same_and_imports_no_torch(tmp_path, kept_file):
    expected = list_runs(load_spec("figure4"), tmp_path / "out").to_json()
    assert kept_file.is_file()
    code = (
        "import sys\n"
        "from filtersub.cli import app\n"
        f"arguments = ['ablate', 'figure4', '--out', {str(tmp_path / 'out')!r}, '--dry-run', '--json']\n"
        "app(arguments, standalone_mode=False)\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(said.stdout) == expected
    assert said.stderr.splitlines()[-1] == "False"


def test_what_a_path_holds_is_looked_at_each_time(tmp_path, kept_file, spec):
    two = counts(spec, tmp_path)
    (tmp_path / "birds" / "c").mkdir()
    three = counts(spec, tmp_path)
    assert [head for _, head in two] == [count_parameters("efficientnet_lite0", num_classes=2).head] * 4
    assert [head for _, head in three] == [count_parameters("efficientnet_lite0", num_classes=3).head] * 4
    assert [trained for trained, _ in two] == [trained for trained, _ in three]


def test_what_fails_is_not_kept(tmp_path, kept_file, spec):
    (tmp_path / "birds").rename(tmp_path / "away")
    assert counts(spec, tmp_path) == [(None, None)] * 4
    (tmp_path / "away").rename(tmp_path / "birds")
    assert None not in counts(spec, tmp_path)[0]


def test_a_model_that_is_a_file_or_a_folder_is_looked_at_each_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_of_library("resnet18")
    (tmp_path / "resnet18").mkdir()
    assert not is_of_library("resnet18")


def test_a_bare_file_of_weights_is_told_not_counted(tmp_path, kept_file, spec):
    save_file({"conv.weight": torch.zeros(8, 4, 3, 3)}, tmp_path / "own.safetensors")
    (tmp_path / "spec.yaml").write_text(SPEC.replace("data: 'folder:birds'", "data: digits, model: own.safetensors"))
    (note,) = set(list_runs(load_spec(tmp_path / "spec.yaml"), tmp_path / "out").runs["note"])
    assert note == "own.safetensors is a file of weights, without an architecture; name a model, and it as weights"


def test_a_file_that_is_damaged_or_cannot_be_written_changes_no_answer(tmp_path, kept_file, spec):
    right = counts(spec, tmp_path)
    for damaged in ("{", "[]", ""):
        kept_file.write_text(damaged)
        assert counts(spec, tmp_path) == right
    kept_file.unlink()
    kept_file.mkdir()  # no file can take its place
    assert counts(spec, tmp_path) == right


def test_a_result_is_made_once_for_its_arguments_over_processes(tmp_path):
    made = []

    def make():
        made.append(0)
        return len(made)

    one, other = (KeptResults(tmp_path / "kept.json") for _ in range(2))
    assert [
        one.result("count", [4, "a"], make),
        one.result("count", [4, "a"], make),
        one.result("count", [5, "a"], make),
    ] == [
        1,
        1,
        2,
    ]
    assert other.result("sum", [4, "a"], make) == 3  # of another function
    one.write()
    other.write()
    later = KeptResults(tmp_path / "kept.json")
    assert [
        later.result("count", [4, "a"], make),
        later.result("count", [5, "a"], make),
        later.result("sum", [4, "a"], make),
    ] == [
        1,
        2,
        3,
    ]


def test_the_name_of_the_file_changes_with_the_code_and_with_every_library(tmp_path, monkeypatch):
    def named():
        stamp.cache_clear()
        return stamp(tmp_path)

    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("x = 1\n")
    seen = [named()]
    (tmp_path / "room" / "one.py").write_text("x = 2\n")
    seen.append(named())
    (tmp_path / "values.yaml").write_text("a: 1\n")
    seen.append(named())
    versions = kept_results.importlib.metadata.version
    for library in ("torch", "timm", "peft"):
        monkeypatch.setattr(
            kept_results.importlib.metadata,
            "version",
            lambda name, changed=library: "0" if name == changed else versions(name),
        )
        seen.append(named())
    assert len(set(seen)) == len(seen)
    monkeypatch.undo()
    found = kept_results.importlib.util.find_spec

    class Checkout:
        origin = "/home/user/timm/timm/__init__.py"

    monkeypatch.setattr(
        kept_results.importlib.util, "find_spec", lambda name: Checkout() if name == "timm" else found(name)
    )
    assert named() is None
    stamp.cache_clear()
