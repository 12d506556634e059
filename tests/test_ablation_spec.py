"""Specs: conditions, the line in each error, dry runs, times of earlier runs, shares of cores."""

import io
import json
import os
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from rich.console import Console
from test_ablation import PARAMETERS, WORK, spec_of, write_notebook
from typer.testing import CliRunner

from filtersub.ablation import dry_run, list_runs, plan, run_ablation
from filtersub.ablation.dry_run import makespan
from filtersub.ablation.folder import ABLATION_FILE, check_folder, set_aside_damaged, take_folder
from filtersub.ablation.notebook_contract import notebook_faults
from filtersub.ablation.progress import RunProgress
from filtersub.ablation.run_slot import _one_gpu, visible_gpus
from filtersub.ablation.run_times import RunTimes
from filtersub.ablation.schemas import StageSchema
from filtersub.ablation.slots import _place, checked_workers, share_cores
from filtersub.ablation.spec import load_spec, matches, parse_spec
from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.files import write_json
from filtersub.parameters import count_parameters


@pytest.fixture
def work(tmp_path):
    return write_notebook(tmp_path / "07_work.ipynb", PARAMETERS, WORK)


HEAD = "name: t\ntitle: T\nquestion: Q?\nstages:\n  - notebook: {notebook}\n"  # the stage's keys begin on line 6


def written(tmp_path, work, stage):
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD.format(notebook=work) + stage)
    return path


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ({"method": "linear"}, True),
        ({"method": ["full", "linear"], "atoms": 9}, True),
        ({"method": {"not": ["full", "linear"]}}, False),
        ({"atoms": {"above": 6, "at_most": 9}}, True),
        ({"atoms": {"below": 9}}, False),
        ({"atoms": {"at_least": {"parameter": "expansion"}}}, True),
        ({"atoms": {"not": {"parameter": "expansion"}}}, True),
        ({"block": None}, True),
        ({"block": {"above": 0}}, False),  # None compares with nothing
        ({"flag": 1}, False),  # True is no number here
    ],
)
def test_patterns_say_what_they_meet(pattern, met):
    parameters = {"method": "linear", "atoms": 9, "expansion": 4, "block": None, "flag": True}
    assert matches(pattern, parameters) is met


def test_conditions_drop_runs_by_parameters_and_defaults(work, tmp_path):
    grid = {"rate": [0.1, 0.2], "size": [None, 3]}
    left = plan(spec_of(work, grid=grid, skip=[{"rate": 0.1, "size": {"not": None}}]), tmp_path)
    assert [(run.parameters["rate"], run.parameters["size"]) for run in left] == [(0.1, None), (0.2, None), (0.2, 3)]
    kept = plan(spec_of(work, grid=grid, only=[{"size": 3}, {"rate": {"above": 0.1}, "fail": False}]), tmp_path)
    assert [(run.parameters["rate"], run.parameters["size"]) for run in kept] == [(0.1, 3), (0.2, None), (0.2, 3)]
    same = plan(spec_of(work, grid=grid), tmp_path)
    assert {run.run_id for run in left} < {run.run_id for run in same}  # a condition changes no identity


@pytest.mark.parametrize(
    ("stage", "line", "message"),
    [
        ("    sedes: [0]\n", 6, "unknown key 'sedes'; did you mean 'seeds'?"),
        ("    seeds: [0]\n    seeds: [1]\n", 7, "'seeds' is there twice, first on line 6"),
        ("    seeds: [0, 1, 0]\n", 6, "seeds has the value 0 twice"),
        ("    parameters:\n      rate: 1.0\n      size: big\n", 8, "size must be int or None, got 'big'"),
        ("    runs:\n      - {rate: 1.0}\n      - {rat: 1.0}\n", 8, "no parameter 'rat'; did you mean 'rate'?"),
        ("    runs:\n      - {rate: 1.0}\n      - {rate: 1.0}\n", 8, "is there twice, the first on line 7"),
        ("    grid:\n      rate: [0.1, 0.1]\n", 7, "grid.rate has the value 0.1 twice"),
        ("    grid: {rate: [0.1]}\n    runs: [{rate: 0.2}]\n", 7, "'rate' is in a run and in the grid"),
        ("    grid: {rate: [0.1]}\n    skip:\n      - {rate: 0.1}\n", 5, "its conditions drop all 1 runs"),
        ("    skip:\n      - {rates: 0.1}\n", 7, "no parameter 'rates'; did you mean 'rate'?"),
        ("    skip:\n      - {rate: fast}\n", 7, "rate must be float, got 'fast'"),
        ("    skip:\n      - {rate: {over: 1.0}}\n", 7, "unknown comparison 'over'"),
        ("    only:\n      - {rate: {above: {parameter: sise}}}\n", 7, "no parameter 'sise'; did you mean 'size'?"),
        ("    only: []\n", 6, "only is empty"),
        ("    runs: {rate: 1}\n", 6, "runs should be a list"),
        ("    parameters: {rate: [}\n", 6, "is not valid YAML"),
    ],
)
def test_an_error_names_its_line(work, tmp_path, stage, line, message):
    path = written(tmp_path, work, stage)
    with pytest.raises(FiltersubError) as raised:
        run_ablation(load_spec(path), tmp_path / "out")
    assert str(raised.value).startswith(f"{path}:{line}")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_yaml_makes_no_objects_and_no_endless_aliases(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(FiltersubError, match=r"bad.yaml:1 is not valid YAML"):
        load_spec(path)
    path.write_text(
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    )
    with pytest.raises(FiltersubError, match="aliases have no end"):
        load_spec(path)


def test_a_dry_run_counts_by_formula_and_times_by_earlier_runs_only(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        HEAD.format(notebook="02_tuning")
        + "    grid: {method: [linear, filter-subspace], atoms: [6, 9]}\n    skip: [{method: linear, atoms: 6}]\n"
    )
    out = tmp_path / "out"
    found = list_runs(load_spec(path), out, workers=1)
    by_atoms = count_parameters("efficientnet_lite0", num_classes=10)
    assert found.runs["trainable"].tolist() == [0, by_atoms.trainable * 6 // 9, by_atoms.trainable]
    assert found.runs["head"].tolist() == [by_atoms.head] * 3
    assert found.seconds is None
    assert not out.exists()

    runs = plan(load_spec(path), out)
    here = {"processor": "p", "threads": 1, "gpu": None}
    for run, seconds, parameters in ((runs[0], 10.0, {"seed": 3}), (runs[1], 40.0, {"epochs": 4})):
        state = {"notebook": "02_tuning", "parameters": {**run.parameters, **parameters}, "status": "done"}
        write_json(out / "runs" / run.run_id / "run.json", {**state, "seconds": seconds, "machine": here})
    times = RunTimes(out, here)
    assert times.estimate("02_tuning", runs[0].parameters).seconds == 10.0
    assert times.estimate("02_tuning", {**runs[1].parameters, "epochs": 8}).seconds == 80.0  # in proportion
    assert times.estimate("02_tuning", runs[2].parameters) is None
    assert RunTimes(out, {**here, "threads": 2}).estimate("02_tuning", runs[0].parameters) is None  # another machine
    assert RunTimes(tmp_path / "beside", here).estimate("02_tuning", runs[0].parameters).seconds == 10.0
    shown = CliRunner().invoke(app, ["ablate", str(path), "--out", str(out), "--workers", "1", "--dry-run", "--json"])
    assert json.loads(shown.stdout)["runs"][2]["trainable"] == by_atoms.trainable
    assert json.loads(shown.stdout)["seconds"] is None


def test_a_dry_run_says_why_a_run_is_not_counted(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        HEAD.format(notebook="02_tuning") + "    parameters: {data: 'folder:nowhere'}\n    grid: {atoms: [6, 9]}\n"
    )
    arguments = ["ablate", str(path), "--out", str(tmp_path / "out"), "--dry-run"]
    shown = CliRunner().invoke(app, arguments)
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("not counted")]
    assert line.startswith("not counted, 2 of 2 runs: ")
    assert "nowhere" in line
    (note,) = {run["note"] for run in json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["runs"]}
    assert line.endswith(note)
    path.write_text(HEAD.format(notebook="02_tuning") + "    grid: {atoms: [6, 9]}\n")
    said = CliRunner().invoke(app, arguments).stdout
    assert "not counted" not in said


def test_names_of_runs_are_whole_in_a_pipe(tmp_path):
    """So that they can be searched and copied, however long they are."""
    path = tmp_path / "spec.yaml"
    runs = "    parameters: {method: bitfit, weight_decay: 0.0001, head_learning_rate: 0.003, n_train: 100}\n"
    path.write_text(
        HEAD.format(notebook="02_tuning") + runs + "    grid: {learning_rate: [0.001, 0.01], image_size: [32, 64]}\n"
    )
    arguments = ["ablate", str(path), "--out", str(tmp_path / "out"), "--dry-run"]
    said, listed = (CliRunner().invoke(app, [*arguments, *more]).stdout for more in ([], ["--json"]))
    for run in json.loads(listed)["runs"]:
        (line,) = [line for line in said.splitlines() if run["run_id"] in line]
        assert [cell.strip() for cell in line.split("│")[1:5]] == [
            run["run_id"],
            "no",
            f"{run['trainable']:,}",
            f"{run['head']:,}",
        ]


@pytest.mark.parametrize("varied", ["learning_rate", "weight_decay", "l1_penalty", "epochs", "seed"])
def test_what_changes_no_count_is_counted_once(varied, tmp_path, monkeypatch):
    """Beside two sizes that do: a grid of many rates is counted as quickly as one of a single rate."""
    path, counted = tmp_path / "spec.yaml", []
    values = [1, 2, 3, 4] if varied in ("epochs", "seed") else [0.1, 0.2, 0.3, 0.4]
    path.write_text(HEAD.format(notebook="02_tuning") + f"    grid: {{{varied}: {values}, atoms: [6, 9]}}\n")
    monkeypatch.setattr(dry_run, "_counted_of_library", lambda settings, *_: counted.append(settings) or {
        "trainable": settings["atoms"], "head": 1, "total": 2})  # fmt: skip
    found = list_runs(load_spec(path), tmp_path / "out", workers=1)
    assert found.runs["trainable"].tolist() == [6, 9] * 4
    assert [values["atoms"] for values in counted] == [6, 9]


def test_a_large_grid_is_checked_in_one_pass_and_shown_by_its_first_runs(work, tmp_path):
    """100,000 values would take hours if each were compared with every other."""
    path = written(tmp_path, work, "    seeds: [" + ", ".join(map(str, range(1_200))) + "]\n")
    StageSchema(notebook="x", seeds=list(range(100_000)), grid={"rate": [i / 7 for i in range(100_000)]})
    steps = []
    list_runs(load_spec(path), tmp_path / "out", workers=1, on_run=lambda *step: steps.append(step))
    assert steps[0] == ("checked runs", 1, 1_200)
    assert steps[1_199:1_201] == [("checked runs", 1_200, 1_200), ("counted runs", 1, 1_200)]
    shown = CliRunner().invoke(app, ["ablate", str(path), "--out", str(tmp_path / "out"), "--dry-run"])
    assert "these are the first 1,000 of 1,200 runs; --json lists all" in shown.stdout
    assert "1,200 runs, 1,200 to be made" in shown.stdout
    assert "checked runs: 120 of 1,200" in shown.stderr


def test_time_is_that_of_the_last_worker_to_end():
    assert makespan([3.0, 3.0, 3.0], 2) == 6.0
    assert makespan([], 2) == 0.0


def test_workers_that_share_cores_share_them_out():
    both = frozenset({0, 1})
    assert share_cores({"a": ("h", both, 2, 1), "b": ("h", both, 2, 1)}) == {"a": 1, "b": 1}
    apart = {"a": ("h", frozenset({0, 1, 2, 3}), 4, 2), "b": ("h", frozenset({4, 5}), 2, 1), "c": ("i", both, 2, 4)}
    assert share_cores(apart) == {"a": 2, "b": 2, "c": 1}


def test_a_container_has_no_more_cores_than_its_quota(monkeypatch):
    """The quota bounds the time of all threads, not where they run: what the kernel says of the cores is the host's."""
    host = frozenset(range(64))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(host), raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert _place()[1:] == (host, 3)
    assert share_cores({"a": ("h", host, 3, 1), "b": ("i", host, 3, 2)}) == {"a": 3, "b": 1}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert checked_workers(None) == 3


def test_each_run_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    assert visible_gpus() == ["3", "GPU-5f"]
    with _one_gpu() as first, _one_gpu() as second:
        assert {first, second} == {"3", "GPU-5f"}
    assert checked_workers(None) == 2
    with pytest.raises(FiltersubError, match="3 workers for 2 visible GPUs"):
        checked_workers(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    with _one_gpu() as none:
        assert none is None


def test_a_folder_of_another_ablation_is_refused_unless_forced(work, tmp_path):
    spec, out = spec_of(work), tmp_path / "out"
    write_json(out / ABLATION_FILE, {"name": "other", "runs": []})
    with pytest.raises(FiltersubError, match=r"holds the ablation 'other', not 't'.*--force"):
        run_ablation(spec, out)
    assert json.loads((out / ABLATION_FILE).read_text()) == {"name": "other", "runs": []}
    path = written(tmp_path, work, "")
    shown = CliRunner().invoke(app, ["ablate", str(path), "--out", str(out), "--dry-run"])
    assert "holds the ablation 'other', not 't'" in str(shown.exception)
    assert take_folder(out, spec, force=True) == (out.resolve(), [])
    (out / ABLATION_FILE).write_text("{")
    assert "is not a readable plan" in check_folder(out, spec)
    root, (line,) = take_folder(out, spec)
    assert root == out.resolve()
    assert line.endswith(f"`filtersub ablate` writes it anew; the damaged one is kept as {ABLATION_FILE}.damaged")
    assert (out / f"{ABLATION_FILE}.damaged").read_text() == "{"


def test_a_damaged_record_is_named_and_set_aside(work, tmp_path):
    (run,) = plan(spec_of(work), tmp_path)
    assert set_aside_damaged([run]) == []
    run.folder.mkdir(parents=True)
    (run.folder / "record.json").write_text('{"kind": "tun')
    (line,) = set_aside_damaged([run])
    assert f"{run.run_id}/record.json is not a readable record" in line
    assert [path.name for path in run.folder.iterdir()] == ["record.json.damaged"]


def test_the_contract_names_each_fault(work, tmp_path):
    write_notebook(work, PARAMETERS, WORK, "print(size)")
    assert notebook_faults(work) == []
    bad = tmp_path / "bad.ipynb"
    write_notebook(bad, "rate = 0.5\nunused = 1", "print(rate)")
    assert [fault.split(";")[0].split(":")[0] for fault in notebook_faults(bad)] == [
        "its parameters cell has no 'out_dir', the folder that the runner tells it to write into",
        "no cell uses its parameter 'unused'",
    ]
    write_notebook(bad, 'out_dir = "."', "print(1)")
    assert "no call is given out_dir" in notebook_faults(bad)[0]
    cell = new_code_cell("1 +", outputs=[new_output("stream", text="old")], execution_count=3)
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": {"name": "ir", "display_name": "R"}}), bad)
    faults = "\n".join(notebook_faults(bad))
    for part in ("its kernel is 'ir'", "0 cells tagged 'parameters'", "cell 1 holds outputs", "cell 1 is no Python"):
        assert part in faults
    shown = CliRunner().invoke(app, ["check-notebook", str(work), str(bad)])
    assert shown.exit_code == 2
    assert shown.stderr.count("\n") == len(notebook_faults(bad))
    assert CliRunner().invoke(app, ["check-notebook", str(work)]).exit_code == 0


def begin(run, seconds_ago, epoch=None):
    """What a running notebook leaves in its folder."""
    run.folder.mkdir(parents=True)
    write_json(run.folder / "run.json", {"status": "running", "started": time.time() - seconds_ago})
    if epoch is not None:
        write_json(run.folder / "progress.json", {"epoch": epoch[0], "epochs": epoch[1]})


def end(run, seconds):
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / "run.json", {"status": "done", "seconds": seconds})


def test_the_time_left_is_told_once_a_tenth_of_a_batch_is_done(work, tmp_path):
    """No earlier run is known: the batch's own runs say how long one takes. Two workers, 20 runs of 10 s."""
    stage = {"notebook": str(work), "grid": {"rate": [float(n) for n in range(20)]}}
    runs = plan(parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}), tmp_path / "out")
    text = io.StringIO()
    with RunProgress(len(runs), line_every=0.0, console=Console(file=text, width=200)) as progress:
        progress.expects(RunTimes(tmp_path / "out", {}), workers=2)

        def said(left):
            text.truncate(text.seek(0))
            progress.update(left)
            return text.getvalue()

        assert "left" not in said(runs)
        end(runs[0], 10.0)
        progress.ended(runs[0], "done")
        assert "left" not in said(runs[1:])  # a twentieth
        end(runs[1], 10.0)
        progress.ended(runs[1], "done")
        assert ", about 1:30 left" in said(runs[2:])  # 18 runs over two workers
        begin(runs[2], 3.5)
        begin(runs[3], 3.5)
        assert ", about 1:26 left" in said(runs[2:])


def test_a_run_that_reads_records_is_not_taken_for_one_that_trains(work, tmp_path):
    """A summary takes seconds: after runs of two minutes it was said to take two minutes."""
    stages = [{"notebook": str(work), "grid": {"rate": [0.0, 1.0]}}, {"notebook": "03_summary", "reads_records": True}]
    runs = plan(parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": stages}), tmp_path / "out")
    text = io.StringIO()
    with RunProgress(len(runs), line_every=0.0, console=Console(file=text, width=200)) as progress:
        progress.expects(RunTimes(tmp_path / "out", {}), workers=1)
        for done in (1, 2):
            end(runs[done - 1], 120.0)
            progress.ended(runs[done - 1], "done")
            text.truncate(text.seek(0))
            progress.update(runs[done:])
            assert (", about 2:00 left" in text.getvalue()) == (done == 1)
        assert "left" not in text.getvalue()


def test_the_time_left_is_told_within_the_first_run_of_a_small_batch_that_trains(work, tmp_path):
    stage = {"notebook": str(work), "grid": {"rate": [0.0, 1.0, 2.0]}}
    runs = plan(parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}), tmp_path / "out")
    text = io.StringIO()
    with RunProgress(len(runs), line_every=0.0, console=Console(file=text, width=200)) as progress:
        begin(runs[0], 30.0, epoch=(1, 4))  # a twelfth of the batch
        progress.update(runs)
        assert "left" not in text.getvalue()
        (runs[0].folder / "progress.json").unlink()
        write_json(runs[0].folder / "progress.json", {"epoch": 2, "epochs": 4})
        progress.update(runs)
        assert ", about 2:30 left" in text.getvalue()  # 30 s of this one, and two of 60 s


def test_a_bar_is_there_before_the_first_run_begins(tmp_path):
    text = io.StringIO()
    with RunProgress(3, console=Console(file=text, force_terminal=True, width=100)):
        first = text.getvalue()
    assert "0 of 3 done" in first
    assert "━" in first
