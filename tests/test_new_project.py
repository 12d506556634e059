"""``filtersub new``: the folder that it writes keeps the contract and runs by the commands of its README."""

import ast
import json
import re
import shlex

import nbformat
import pytest
import yaml
from typer.testing import CliRunner

from filtersub.ablation import load_spec, plan
from filtersub.ablation.new_project import new_project
from filtersub.ablation.notebook_contract import notebook_faults, notebook_parameters
from filtersub.cli import app
from filtersub.collect import collect
from filtersub.errors import FiltersubError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def birds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("new", "birds")
    assert done.exit_code == 0, done.exception
    return tmp_path / "birds"


def commands_of(folder):
    return [
        shlex.split(line)[1:] for line in re.findall(r"^    (filtersub .*)$", (folder / "README.md").read_text(), re.M)
    ]


def test_the_folder_holds_a_checked_notebook_an_ablation_and_three_commands(birds, tmp_path):
    assert sorted(path.name for path in birds.iterdir()) == ["README.md", "ablation.yaml", "birds.ipynb"]
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]  # nothing half-written
    nbformat.validate(nbformat.read(birds / "birds.ipynb", as_version=4))
    assert notebook_faults(birds / "birds.ipynb") == []
    assert [command[0] for command in commands_of(birds)] == ["check-notebook", "ablate", "ablate"]
    runs = plan(load_spec(birds / "ablation.yaml"), tmp_path / "out")
    settings = {tuple(r.parameters.get(name) for name in ("atoms", "expansion", "block")) for r in runs[2:-1]}
    assert settings == {(m, m_1, k_c) for m in (6, 9, 12) for m_1 in (None, 4) for k_c in (None, 2, 4)}
    assert [run.notebook.stem for run in runs] == ["birds"] * 38 + ["03_summary"]


def test_the_first_two_commands_answer(birds, monkeypatch):
    monkeypatch.chdir(birds)
    check, dry, _ = commands_of(birds)
    assert run(*check).output == "birds.ipynb: keeps the contract\n"
    shown = run(*dry)
    assert shown.exit_code == 0
    assert "39 runs, 39 to be made" in shown.output
    assert not (birds / "report").exists()


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_third_command_runs_it(birds, monkeypatch):
    """One small run of the 38, which a tracker follows."""
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    monkeypatch.chdir(birds)
    content = yaml.safe_load((birds / "ablation.yaml").read_text())
    _, grid, _ = content["stages"]
    grid["parameters"] |= {"epochs": 1, "image_size": 32, "batch_size": 250}
    grid |= {"seeds": [0], "grid": {"atoms": [3], "expansion": [2], "block": [None]}}
    (birds / "ablation.yaml").write_text(yaml.safe_dump({**content, "stages": [grid]}))
    done = run(*commands_of(birds)[2], "--log-with", "tensorboard")
    assert done.exit_code == 0, [path.read_text() for path in birds.rglob("error.txt")]
    assert (birds / "report" / "index.html").is_file()
    ((folder, record),) = collect(birds / "report").records.items()
    assert len([*folder.glob("tensorboard/events*")]) == 1
    assert (record.parameters["atoms"], record.parameters["expansion"]) == (3, 2)


QUOTED = {
    "plain": ("resnet18", "folder:birds"),
    "quotes": ('timm:a"b', "csv:it's/a \\ list.csv"),
    "words": ("MODEL", "hf:DATA"),
}


@pytest.mark.parametrize("kind", QUOTED)
def test_model_and_data_stand_in_notebook_and_yaml_whatever_their_letters(kind, tmp_path):
    model, data = QUOTED[kind]
    written = new_project(tmp_path / "own", model=model, data=data)
    stated = notebook_parameters(written["notebook.ipynb"])
    assert (stated["model"][1], stated["data"][1]) == (model, data)
    stages = yaml.safe_load(written["ablation.yaml"].read_text())["stages"]
    assert {(stage["parameters"]["model"], stage["parameters"]["data"]) for stage in stages[:2]} == {(model, data)}
    for cell in json.loads(written["notebook.ipynb"].read_text())["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            assert "PROJECT" not in "".join(cell["source"])


@pytest.mark.parametrize("name", ["2026", "1.50", "true", "No", "null", "1e3", "0x1F", "2026-11-28", "12_30"])
def test_a_name_stays_text_where_yaml_would_read_a_number_a_date_or_nothing(name, tmp_path):
    spec = load_spec(new_project(tmp_path / name, model="resnet18", data="digits")["ablation.yaml"])
    assert spec.name == name
    assert [run.notebook.name for run in plan(spec, tmp_path / "out")[:2]] == [f"{name}.ipynb"] * 2


def test_images_beside_the_new_folder_are_found_from_within(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "list.csv").write_text("")
    expected = {
        "folder:photos": f"folder:{tmp_path}/photos",
        "csv:list.csv?label=species": f"csv:{tmp_path}/list.csv?label=species",
        "folder:elsewhere": "folder:elsewhere",  # below the data root, or nowhere yet
        f"folder:{tmp_path}/photos": f"folder:{tmp_path}/photos",
        "digits": "digits",
    }
    for number, (given, wanted) in enumerate(expected.items()):
        written = new_project(f"p{number}", model="resnet18", data=given)
        assert notebook_parameters(written["notebook.ipynb"])["data"][1] == wanted
        stages = yaml.safe_load(written["ablation.yaml"].read_text())["stages"]
        assert stages[0]["parameters"]["data"] == wanted


REFUSED = {
    "a name of other letters": (("b irds",), "the name 'b irds' may hold letters"),
    "a hidden name": ((".birds",), "the name '.birds'"),
    "a folder that is there": (("taken",), "is there already"),
    "the working folder": ((".",), "is there already"),
    "an unknown model": (("birds", "--model", "resnet81"), "unknown model 'resnet81'"),
    "an unknown data set": (("birds", "--data", "digitz"), "did you mean 'digits'"),
    "a file where a folder must be": (("file/birds",), "cannot make the folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing_behind(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    arguments, message = REFUSED[name]
    done = run("new", *arguments)
    assert isinstance(done.exception, FiltersubError)
    assert message in str(done.exception)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "taken"]
