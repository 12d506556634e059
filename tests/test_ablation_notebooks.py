"""Notebooks as people write them: stated types, working folders, pictures, early ends; and what a plan refuses."""

import json
import os

import nbformat
import pytest
from conftest import external_references
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_ablation import PARAMETERS, WORK, write_notebook
from typer.testing import CliRunner

from filtersub.ablation import load_spec, plan, run_ablation
from filtersub.ablation.notebook_contract import check_parameters, notebook_faults, notebook_parameters
from filtersub.ablation.notebook_html import to_html
from filtersub.ablation.settings_check import SettingsCheck
from filtersub.ablation.spec import parse_spec
from filtersub.cli import app
from filtersub.collect import collect
from filtersub.errors import FiltersubError
from filtersub.records import read_record

STATED = {  # annotation: (values that are taken, values that are refused)
    "list[int]": ([[1, 2], []], [[1.5], ["a"], 1, None]),
    "'Optional[float]'": ([None, 1, 0.5], ["a", True]),
    "Optional[int]": ([None, 3], [3.5, True, []]),
    "'int'": ([3], [3.5, None, True]),
    "tuple": ([[1, "a"]], [1, "ab", {"a": 1}]),
    "tuple[int, ...]": ([[1, 2]], [["a"]]),
    "typing.Union[int, str]": ([1, "a"], [1.5, None]),
    "int | str | None": ([1, "a", None], [1.5]),
    "Literal['adam', 'adamw']": (["adam"], ["sgd", 1]),
    "dict[str, float]": ([{"a": 1}], [{"a": "b"}, []]),
    "Sequence[str]": ([["a"]], [[1]]),
    "bool": ([True], [1, "true"]),
    "Any": ([1, None, "a", [1]], []),
}


@pytest.mark.parametrize("annotation", STATED)
def test_a_value_is_taken_where_it_is_of_the_stated_type(annotation, tmp_path):
    imports = "import typing\nfrom typing import *\nfrom collections.abc import Sequence\n"
    known = notebook_parameters(write_notebook(tmp_path / "a.ipynb", f"{imports}x: {annotation} = None\nout_dir = '.'"))
    taken, refused = STATED[annotation]
    for value in taken:
        check_parameters({"x": value}, known, "a")
    for value in refused:
        with pytest.raises(FiltersubError, match="a: x must be"):
            check_parameters({"x": value}, known, "a")


@pytest.mark.parametrize("annotation", ["np.float64", "Path", "list[Foo]", "'Rate'", "int[3]", "3", "lambda: 1"])
def test_a_type_that_no_ablation_can_check_is_a_fault_of_the_notebook(annotation, tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", f"x: {annotation} = 1\nout_dir = '.'", WORK)
    assert any("its parameter 'x'" in fault for fault in notebook_faults(path))
    with pytest.raises(FiltersubError, match="its parameter 'x'"):
        notebook_parameters(path)


def test_the_default_of_a_tuple_takes_a_list(tmp_path):
    known = notebook_parameters(write_notebook(tmp_path / "a.ipynb", "pair = (1, 2)\nout_dir = '.'"))
    check_parameters({"pair": [3, 4]}, known, "a")


REFUSED = {
    "method": ({"method": "loro"}, "02_tuning.ipynb: .*'loro'"),
    "solver": ({"solver": "laso"}, "did you mean 'lasso'"),
    "atoms": ({"atoms": 0}, "atoms must be a positive integer, got 0"),
    "optimizer": ({"optimizer": "sgdd"}, "sgdd"),
    "batch norm": ({"batch_norm": "frosen"}, "frosen"),
    "two that do not go together": ({"block_spatial": True}, "set block"),
    "other notebook": ({"notebook": "01_decomposition", "solver": "laso"}, "01_decomposition.ipynb: .*'laso'"),
    "an empty list": ({"notebook": "06_model_decomposition", "seeds": []}, r"seeds\[0\] is not there"),
    "generation": ({"notebook": "09_generation", "method": "loro"}, "09_generation.ipynb: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_would_be_refused_in_the_run_are_refused_by_the_dry_run(name, tmp_path):
    changes, message = REFUSED[name]
    parameters = {key: value for key, value in changes.items() if key != "notebook"}
    stage = {"notebook": changes.get("notebook", "02_tuning"), "parameters": parameters}
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}))
    said = CliRunner().invoke(app, ["ablate", str(path), "--out", str(tmp_path / "out"), "--dry-run"])
    assert isinstance(said.exception, FiltersubError)
    assert str(said.exception).startswith(f"{path}:1: stage 1: ")
    with pytest.raises(FiltersubError, match=message):
        plan(load_spec(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_settings_made_of_parameters_are_made_beforehand():
    named = "from filtersub import TuneSettings as T\n"
    for source in (
        "T(method=other)",  # a name that is no parameter
        "method = 'full'\nT(method=method)",  # that is no longer what it was
        "if method:\n    T(method=method)",  # that may never be made
        "print(T)",
        "%time T(method=method)",
    ):
        SettingsCheck([named + source], ["method"]).check({"method": "loro"})
    with pytest.raises(FiltersubError, match="loro"):
        SettingsCheck([named, "settings = T(**{'method': method}, seed=-0)"], ["method"]).check({"method": "loro"})
    among = "from filtersub.experiment import settings_among\n"
    with pytest.raises(FiltersubError, match="loro"):
        SettingsCheck([among + "settings = settings_among(globals())"], ["method"]).check({"method": "loro"})
    SettingsCheck([among + "method = 'full'\nsettings_among(globals())"], ["method"]).check({"method": "loro"})


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("T(**{'method': method}, method='full')", "multiple values for keyword argument 'method'"),
        ("T(method=method, method='full')", "keyword argument repeated: method"),
        ("T(methods=method)", "unexpected keyword argument 'methods'"),
        ("T(rank=-method)", "bad operand type for unary -: 'str'"),
    ],
)
def test_a_call_that_cannot_be_made_is_a_fault(call, told):
    with pytest.raises(FiltersubError, match=told):
        SettingsCheck([f"from filtersub import TuneSettings as T\n{call}"], ["method"]).check({"method": "full"})


def test_the_path_of_a_notebook_is_seen_from_its_yaml(tmp_path, monkeypatch):
    for folder in ("files", "shell"):
        (tmp_path / folder).mkdir()
        write_notebook(tmp_path / folder / "own.ipynb", PARAMETERS, WORK)
    write_notebook(tmp_path / "shell" / "here.ipynb", PARAMETERS, WORK)
    monkeypatch.chdir(tmp_path / "shell")
    for name, wanted in (("own.ipynb", "files"), ("./own.ipynb", "files"), ("here.ipynb", "shell")):
        path = tmp_path / "files" / "own.yaml"
        path.write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [{"notebook": name}]}))
        (run,) = plan(load_spec(path), tmp_path)
        assert run.notebook.parent == tmp_path / wanted


def test_a_scheduler_that_does_not_answer_leaves_no_files(tmp_path):
    work = write_notebook(tmp_path / "work.ipynb", PARAMETERS, WORK)
    spec = parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": [{"notebook": str(work)}]})
    with pytest.raises(FiltersubError, match="no Dask scheduler answers at 'garbage'"):
        run_ablation(spec, tmp_path / "out", scheduler="garbage")
    assert not (tmp_path / "out").exists()


PICTURE = b"\x89PNG\r\n\x1a\n not much of one"


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
@pytest.mark.skipif(os.name == "nt", reason="folders named with braces")
def test_notebooks_run_from_any_folder_end_early_and_show_their_pictures(tmp_path):
    """In one batch, into a folder whose name papermill would take for a pattern."""
    (tmp_path / "beside.png").write_bytes(PICTURE)
    moved = "import os, tempfile\nos.chdir(tempfile.mkdtemp())\nprint('it is', out_dir, 'and', records_dir)"
    stated = f"{PARAMETERS}sizes: 'list[int]' = [1]\nrecords_dir = '.'"
    write_notebook(tmp_path / "moved.ipynb", stated, moved, WORK, text="# Q\n\n![a curve](beside.png)")
    write_notebook(tmp_path / "left.ipynb", PARAMETERS, WORK, "import sys; sys.exit(0)")
    bare = nbformat.read(write_notebook(tmp_path / "bare.ipynb", PARAMETERS, WORK), 4)
    del bare.metadata["kernelspec"]["language"]
    nbformat.write(bare, tmp_path / "bare.ipynb")
    assert not [fault for fault in notebook_faults(tmp_path / "bare.ipynb") if "kernel" in fault or "language" in fault]
    stages = [{"notebook": "moved.ipynb", "parameters": {"sizes": [3, 4]}}]
    stages += [{"notebook": "left.ipynb"}, {"notebook": "bare.ipynb"}]
    (tmp_path / "own.yaml").write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": stages}))
    out = tmp_path / "out{a}"
    assert run_ablation(load_spec(tmp_path / "own.yaml"), out, workers=2).failed == ()
    folders = {run.notebook.stem: run.folder for run in plan(load_spec(tmp_path / "own.yaml"), out)}
    pages = {name: (folder / "notebook.html").read_text() for name, folder in folders.items()}
    for name, folder in folders.items():
        assert read_record(folder).metrics["test_accuracy"] == 0.5
        assert "This run failed" not in pages[name]
        assert external_references(pages[name]) == []
        for file in ("notebook.ipynb", "notebook.html", "record.json", "run.json"):
            assert str(tmp_path) not in (folder / file).read_text(), file
    assert "sizes = [3, 4]" in (folders["moved"] / "notebook.ipynb").read_text()
    assert "it is . and ." in pages["moved"]
    assert 'src="data:image/png;base64,' in pages["moved"]
    assert collect(out).failures == ()


def page_of(*outputs, **options):
    cells = [new_markdown_cell("# Q"), new_code_cell("x", outputs=list(outputs))]
    return to_html(new_notebook(cells=cells), name="n", **options)


@pytest.mark.parametrize(
    ("name", "value", "failed"),
    [("SystemExit", "0", False), ("SystemExit", "", False), ("SystemExit", "1", True), ("ValueError", "0", True)],
)
def test_a_page_says_failed_where_the_run_did(name, value, failed):
    page = page_of(new_output("error", ename=name, evalue=value, traceback=["as it was"]))
    assert ("This run failed" in page) is failed


def test_pieces_of_one_stream_are_one():
    out, err = ("one ", "line\n"), ("a ", "warning\n")
    outputs = [new_output("stream", name="stdout", text=text) for text in out]
    outputs += [new_output("stream", name="stderr", text=text) for text in err]
    page = page_of(*outputs, new_output("stream", name="stdout", text="after\n"))
    for whole in ("one line\n", "a warning\n", "after\n"):
        assert f'<pre tabindex="0">{whole}</pre>' in page
    assert page.count("Messages on standard error") == 1


def test_the_page_of_a_killed_kernel_says_so():
    page = page_of(error="DeadKernelError: Kernel died")
    assert "This run failed" in page
    assert "DeadKernelError: Kernel died" in page
