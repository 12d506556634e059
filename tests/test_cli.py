"""The command line as a user meets it: processes of their own, JSON out, one clear line for bad input."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
import warm
from safetensors.torch import save_file

from filtersub.decomposition import ModelDecomposition
from filtersub.percentages import percentage


def test_decompose_as_json_and_files(filtersub, tmp_path):
    done = filtersub("decompose", "efficientnet_lite0", "--atoms", 9, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert len(value["layers"]) == 17
    wanted = {
        "name",
        "shape",
        "rows",
        "atoms",
        "solver",
        "relative_error",
        "density",
        "objective",
        "iterations",
        "seconds",
    }
    assert wanted <= set(value["layers"][0])
    table = pd.read_csv(tmp_path / "layers.csv")
    assert table["relative_error"].tolist() == [layer["relative_error"] for layer in value["layers"]]
    saved = ModelDecomposition.load(tmp_path / "atoms.safetensors")
    assert saved.relative_error == pytest.approx(value["relative_error"])


def test_decompose_a_bare_file_of_weights(filtersub, tmp_path):
    generator = torch.Generator().manual_seed(0)
    save_file(
        {"a.weight": torch.randn(8, 4, 3, 3, generator=generator), "a.bias": torch.zeros(8)}, tmp_path / "w.safetensors"
    )
    done = filtersub("decompose", tmp_path / "w.safetensors", "--atoms", 9, "--l1-penalty", 0, "--json")
    (layer,) = json.loads(done.stdout)["layers"]
    assert layer["name"] == "a"
    assert layer["relative_error"] < 1e-5


def test_count_needs_no_weights(filtersub):
    done = filtersub("count", "resnet50", "--block", 4, "--json")
    value = json.loads(done.stdout)
    assert value["total"] == 25_557_032
    assert value["trainable"] == sum(layer["trainable"] for layer in value["layers"])
    shown = filtersub("count", "resnet50", "--block", 4).stdout
    assert f"{value['trainable']:,} trained" in shown


def test_tune_writes_a_record(filtersub, tmp_path):
    options = ("--solver", "pca", "--epochs", 1, "--image-size", 16, "--batch-size", 100, "--out", tmp_path / "run")
    done = filtersub("tune", "efficientnet_lite0", "--data", "digits", "--method", "filter-subspace", *options)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert f"accuracy {percentage(record['metrics']['test_accuracy'])}" in done.stdout
    again = filtersub("tune", "efficientnet_lite0", "--data", "digits", *options)
    assert "holds this run already" in again.stdout


def test_data_list_and_check(filtersub):
    assert "digits" in filtersub("data", "list").stdout
    checked = filtersub("data", "check", "digits").stdout
    assert "10 classes; images: 1,000 train, 800 search, 200 validation, 797 test" in checked


def bad_weights(tmp_path: Path) -> dict[str, Path]:
    torch.save({"a": torch.randn(64, 64)}, tmp_path / "short.pth")
    (tmp_path / "short.pth").write_bytes((tmp_path / "short.pth").read_bytes()[:999])
    weight = torch.ones(4, 4, 3, 3)
    weight[0, 0, 0, 0] = float("nan")
    save_file({"a.weight": weight}, tmp_path / "nan.safetensors")
    (tmp_path / "taken").write_text("a file where a folder should be")
    return {"short": tmp_path / "short.pth", "nan": tmp_path / "nan.safetensors", "taken": tmp_path / "taken" / "out"}


CASES = {
    "unknown model": (("count", "resnet5"), "unknown model 'resnet5'"),
    "unknown solver": (("decompose", "efficientnet_lite0", "--solver", "laso"), "did you mean 'lasso'"),
    "no atoms": (("decompose", "efficientnet_lite0", "--atoms", "0"), "positive integer, got 0"),
    "negative atoms": (("count", "resnet18", "--atoms", "-3"), "positive integer, got -3"),
    "block of nothing": (("count", "resnet18", "--block", "0"), "block must be a positive integer"),
    "negative block": (("decompose", "efficientnet_lite0", "--block", "-4"), "block must be a positive integer"),
    "missing file": (("decompose", "nowhere.safetensors"), "no file of weights at nowhere.safetensors"),
    "truncated file": (("decompose", "{short}"), "truncated"),
    "not finite": (("decompose", "{nan}"), "'a' has 1 weights that are NaN or infinite"),
    "unwritable folder": (("decompose", "efficientnet_lite0", "--out", "{taken}"), "cannot make the folder"),
    "unwritable run": (("tune", "efficientnet_lite0", "--out", "{taken}"), "cannot make the folder"),
    "unknown data": (("tune", "efficientnet_lite0", "--data", "digit", "--out", "{fresh}"), "unknown data set 'digit'"),
    "unknown preset": (("ablate", "quickstar", "--out", "{fresh}"), "quickstar"),
    "no layers": (("decompose", "efficientnet_lite0", "--layers", "nowhere"), "no layer matches 'nowhere'"),
    "unknown method": (("tune", "efficientnet_lite0", "--method", "magic", "--out", "{fresh}"), "magic"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_line_and_nothing_half_written(filtersub, case, tmp_path):
    arguments, message = CASES[case]
    paths = {**bad_weights(tmp_path), "fresh": tmp_path / "fresh"}
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = filtersub(*(part.format(**paths) for part in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if done.stderr.startswith("filtersub:"):
        assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_process_that_imports_anew_says_what_a_forked_one_says(filtersub, tmp_path):
    arguments = ["ablate", "quickstar", "--out", "fresh"]  # which imports little
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    cold = warm.run_command(None, arguments, tmp_path, cwd=tmp_path, env=environment)
    forked = filtersub(*arguments, cwd=tmp_path)
    assert cold.stderr.startswith("filtersub: ")
    assert "quickstar" in cold.stderr
    assert (forked.returncode, forked.stdout, forked.stderr) == (cold.returncode, cold.stdout, cold.stderr)
