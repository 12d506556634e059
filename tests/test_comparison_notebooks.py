"""The notebooks that compare settings, executed at a tiny setting in one batch."""

import pytest
from test_allotment import tiny  # noqa: F401 (a fixture)
from test_equal_counts import runs
from test_span_study import SETTINGS, TINY

from filtersub.ablation import run_ablation
from filtersub.ablation.spec import parse_spec


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebooks_of_comparisons_answer(tmp_path, tiny):  # noqa: F811
    for number, each in enumerate(runs()):
        folder = tmp_path / f"made{number}"
        folder.mkdir()
        each.write(folder)
    span = {**TINY, "settings": SETTINGS[:2], "atoms_grid": [3], "seeds": [0]}
    stages = [
        {"notebook": "19_span", "parameters": span},
        {"notebook": "21_allotment", "parameters": {**tiny, "budgets": [600], "top": 1, "seeds": [0], "n_images": 20}},
        {"notebook": "20_equal_counts", "reads_records": True},
    ]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    assert run_ablation(spec, tmp_path).exit_code == 0, [path.read_text() for path in tmp_path.rglob("error.txt")]
    names = ("span", "equal", "allotment")
    span, equal, allotted = (next(tmp_path.rglob(f"{name}*/notebook.html")).read_text() for name in names)
    assert "of a random change" in span
    assert "About 270 trained parameters" in equal
    assert "With at most 600 trained parameters, allotted by layer" in allotted
    assert all("<figure" in page for page in (span, equal, allotted))
