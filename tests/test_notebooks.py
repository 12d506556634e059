"""The notebooks as committed: no outputs, one cell of literal parameters, thin; and executed at a tiny setting."""

import ast
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import nbformat
import pytest
import typer
from conftest import external_references

import filtersub
from filtersub.ablation import find_notebook, run_ablation
from filtersub.ablation.notebook_contract import notebook_parameters
from filtersub.ablation.planning import plan
from filtersub.ablation.spec import load_spec, parse_spec, presets
from filtersub.cli import app
from filtersub.collect import collect
from filtersub.experiment import TuneSettings
from filtersub.percentages import percentage
from filtersub.report import write_report
from filtersub.setting_fields import RecipeFields, StartFields, TuneFields
from filtersub.tuning import FilterSubspaceConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "docs" / "site"))
from settings_page import commented
from settings_page import page as settings_page

sys.path.pop(0)

TEMPLATE = Path(filtersub.__file__).parent / "templates" / "new" / "notebook.ipynb"
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS][:3] == ["00_explore", "01_decomposition", "02_tuning"]


def test_sources_carry_no_outputs(notebook):
    nbformat.validate(notebook)
    for cell in code_of(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_formulas_are_legible_without_tex(notebook):
    """nbconvert's page would fetch MathJax for them."""
    for cell in [*notebook.cells, *nbformat.read(TEMPLATE, as_version=4).cells]:
        if cell.cell_type == "markdown":
            assert "$" not in cell.source
            assert "\\" not in cell.source


def test_parameters_are_literals_with_their_meaning(notebook):
    tagged = [cell for cell in code_of(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = [line for line in ast.parse(tagged[0].source).body if not isinstance(line, ast.ImportFrom)]
    for line in lines:
        assert isinstance(line, ast.Assign | ast.AnnAssign)
        ast.literal_eval(line.value)
        assert "#" in tagged[0].source.splitlines()[line.end_lineno - 1]
    assert any(getattr(line, "targets", [None])[0].id == "out_dir" for line in lines if isinstance(line, ast.Assign))


def test_logic_lives_in_the_package(notebook):
    cells = code_of(notebook)
    assert len(cells) <= 12
    for cell in cells:
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef}
        assert len(cell.source.splitlines()) <= (64 if "parameters" in cell.metadata.get("tags", []) else 21)


def test_tables_have_words_as_headings(notebook):
    for cell in code_of(notebook):
        shown = cell.source.count('.style.hide(axis="index")')
        named = len(re.findall(r"format_index\(\s*heading, axis=1|relabel_index\(", cell.source))
        assert named == shown or not re.search(r'"[a-z]+_\w+"', cell.source)


def test_the_first_cell_asks_and_the_last_one_answers(notebook):
    first, last = notebook.cells[0], notebook.cells[-1]
    assert re.match(r"# .+\?\n", first.source)
    assert "**Expected answer.**" in first.source
    assert "**Running time.**" in first.source
    assert last.cell_type == "code"
    assert "What would change it" in last.source
    assert not re.search(r"\d+(\.\d+)? ?%", re.sub(r"{[^}]*}", "", last.source))  # numbers are computed, never typed


def test_the_tuning_notebook_has_the_defaults_of_the_package():
    stated = {name: default for name, (_, default) in notebook_parameters(find_notebook("02_tuning")).items()}
    del stated["out_dir"]
    assert TuneSettings(**stated) == TuneSettings()


def test_a_setting_is_told_once_for_the_command_line_the_notebook_and_the_docs():
    known = {each.name: each for each in fields(TuneFields)}
    (cell,) = (
        each
        for each in nbformat.read(find_notebook("02_tuning"), as_version=4).cells
        if "parameters" in each.metadata.get("tags", [])
    )
    assert commented(cell.source) == cell.source
    page = settings_page()
    assert "object at" not in page
    options = {each.name: each for each in typer.main.get_command(app).commands["tune"].params}
    for name, each in known.items():
        told = each.metadata["meaning"]
        assert not re.search("comma|repeated|--", told)  # words of the command line alone
        assert f"| `{name}` |" in page
        assert told.replace("|", "\\|") in page
        if name != "model":
            assert options[name].help.startswith(told)
            assert (options[name].default or None) == (each.default or None)
    held, kinds = (
        {each.name: each.default for each in fields(FilterSubspaceConfig)},
        get_type_hints(FilterSubspaceConfig),
    )
    for group in (RecipeFields, StartFields):
        hints = get_type_hints(group)
        for each in fields(group):
            assert (kinds[each.name], held[each.name]) == (hints[each.name], each.default)


def check_pages(root):
    """Every executed notebook shows a figure, fetches nothing, runs no script and names no place on this machine."""
    for page in root.rglob("notebook.html"):
        text = page.read_text()
        assert external_references(text) == []
        assert "<figure" in text
        assert "<script" not in text
        assert str(root) not in text


def test_the_guide_and_the_readme_ask_what_each_notebook_asks():
    root = NOTEBOOKS[0].parent.parent
    guide, readme = (root / "docs" / "notebooks.md").read_text(), (root / "README.md").read_text()
    for path in NOTEBOOKS:
        question = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")
        assert f"| `{path.stem}` | {question} |" in guide
        assert f"| [{path.stem}](notebooks/{path.name}) | {question} |" in readme


def test_presets_give_their_notebooks_what_these_know(tmp_path):
    for name in presets():
        assert plan(load_spec(name), tmp_path)


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebooks_run_and_make_a_report(tmp_path):
    tiny = {"epochs": 1, "image_size": 32, "batch_size": 250, "solver": "pca"}
    stages = [
        {
            "notebook": "01_decomposition",
            "parameters": {"atoms_grid": [1, 3], "atoms": 3, "solver": "pca", "layers": r"blocks\.[01]"},
        },
        {"notebook": "02_tuning", "parameters": tiny},
        {"notebook": "03_summary", "reads_records": True},
    ]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path)
    errors = {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")}
    assert not errors
    assert summary.exit_code == 0
    check_pages(tmp_path)
    (page,) = (path.read_text() for path in tmp_path.glob("runs/decomposition-*/notebook.html"))
    assert "Every layer was solved in closed form" in page
    assert "Objective over its first value" not in re.sub("<pre.*?</pre>", "", page, flags=re.S)  # an empty figure
    report = write_report(tmp_path).read_text()
    for record in collect(tmp_path).of_kind("tuning").values():
        assert f"{100 * record.metrics['test_accuracy']:.1f}\N{NO-BREAK SPACE}%" in report


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebooks_of_decomposition_run_and_make_a_report(tmp_path):
    one_seed = {"seeds": [0]}
    stages = [
        {"notebook": "04_solvers", "parameters": {**one_seed, "n_rows": 200, "repeats": 1}},
        {
            "notebook": "05_lambda",
            "parameters": {**one_seed, "layers": r"blocks\.0", "penalties": [0.01, 1.0], "tuned_penalties": []},
        },
        {
            "notebook": "06_model_decomposition",
            "parameters": {**one_seed, "layers": r"blocks\.[01]", "atoms_grid": [3], "n_images": 3, "image_size": 32},
        },
    ]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path)
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert summary.exit_code == 0
    check_pages(tmp_path)
    report = write_report(tmp_path).read_text()
    assert external_references(report) == []
    (record,) = collect(tmp_path).of_kind("decomposition").values()
    assert percentage(record.metrics["relative_error"]) in report
