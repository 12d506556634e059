"""The notebooks of generation, executed at a tiny setting, and the report that they make."""

import pytest

from filtersub.ablation import run_ablation
from filtersub.ablation.notebook_html import external_references
from filtersub.ablation.spec import parse_spec
from filtersub.collect import collect
from filtersub.report import write_report


@pytest.mark.notebook
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
