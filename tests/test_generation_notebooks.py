"""The notebooks of generation, executed at a tiny setting, and the report that they make."""

import json

import pytest
from conftest import external_references
from tiny_pipeline import save_classes, save_pipeline

from filtersub.ablation import run_ablation
from filtersub.ablation.spec import parse_spec
from filtersub.collect import collect
from filtersub.report import write_report


def executed(tmp_path, name):
    """The text of all outputs of the notebook."""
    (page,) = tmp_path.rglob(f"*{name}*/notebook.ipynb")
    cells = [cell for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"]
    data = [output["data"] for cell in cells for output in cell["outputs"] if "data" in output]
    return " ".join("".join(text) for each in data for text in each.values())


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_table_3_is_filled_by_one_s_own_runs_and_shown_without_distances_too(tmp_path):
    """A tiny pipeline tuned on two data sets: every run is made, drawn and listed, and none stands beside the paper."""
    pytest.importorskip("diffusers", reason="generation needs diffusers")
    stored = save_pipeline(tmp_path / "sd")
    for name in ("flowers", "pets"):
        save_classes(tmp_path / "data" / name, count=2)
    tiny = {"pipeline": str(stored), "data_dir": str(tmp_path / "data"), "methods": ["none", "filter-subspace"]}
    tiny |= {"steps": 2, "batch_size": 2, "images": 0, "features": "none", "image_size": 16}
    stages = [{"notebook": "10_table3", "parameters": tiny, "reads_records": True}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path / "out")
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert summary.exit_code == 0
    records = collect(tmp_path / "out").of_kind("generation").values()
    assert {(each.environment["data"], each.parameters["method"]) for each in records} == {
        (data, method) for data in ("flowers", "pets") for method in tiny["methods"]
    }
    table = executed(tmp_path / "out", "table3")
    assert "4 runs of generation were read, 4 of them made here" in table
    assert "4 of 4 runs are of another task" in table
    assert "flowers: no distance was measured. pets: no distance was measured." in table


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
@pytest.mark.parametrize("name", ["10_table3", "11_samples"])
def test_without_a_run_the_notebooks_say_so(tmp_path, name):
    pytest.importorskip("diffusers", reason="generation needs diffusers")
    stages = [{"notebook": name, "reads_records": True}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    run_ablation(spec, tmp_path)
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert "No run of generation is there yet." in executed(tmp_path, name.partition("_")[2])


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebooks_of_generation_run_and_make_a_report(tmp_path):
    pytest.importorskip("diffusers", reason="generation needs diffusers")
    tiny = {"steps": 4, "images": 60, "sampling_steps": 4}
    stages = [
        {"notebook": "09_generation", "parameters": tiny, "runs": [{"block": 4}, {"method": "none"}]},
        {"notebook": "10_table3", "reads_records": True},
        {"notebook": "11_samples", "reads_records": True},
    ]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path)
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert summary.exit_code == 0
    report = write_report(tmp_path).read_text()
    assert external_references(report) == []
    assert "digits-classifier Fréchet distance" in report
    records = collect(tmp_path).of_kind("generation").values()
    assert len(records) == 2
    for record in records:
        assert f"{record.metrics['frechet']:.3g}" in report
