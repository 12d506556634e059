"""An ablation's plan (identity, checks) and its runs: real notebooks, failures, re-use, interruption."""

import contextlib
import io
import json
import os
import signal
import subprocess
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console
from warm import LIGHT_COMMAND

from filtersub.ablation import find_notebook, is_finished, load_spec, plan, presets, run_ablation
from filtersub.ablation.notebook_contract import check_parameters, notebook_parameters
from filtersub.ablation.progress import RunProgress
from filtersub.ablation.spec import parse_spec
from filtersub.collect import collect, tuning_table
from filtersub.errors import FiltersubError
from filtersub.records import read_records

PARAMETERS = """
rate = 0.5  # a step's size; = and | in a comment are fine
size: int | None = None
wait = 0.0
fail = False
seed = 0
out_dir = "."
"""
WORK = """
import json, time
from pathlib import Path
from filtersub.records import Record
(Path(out_dir) / "started").write_text("yes")
time.sleep(wait)
assert not fail, "asked to fail"
counts = {"trainable": 10, "head": 5, "total": 100}
Record("tuning", f"rate={rate}", {"rate": rate}, seed, {"test_accuracy": rate}, counts, {"wall_seconds": 1.0},
{}).write(out_dir)
"""
READ = """
from filtersub.collect import collect, tuning_table
runs = tuning_table(collect(records_dir).records)
print("records read:", len(runs))
"""


def write_notebook(path, parameters, *cells, text="# A question"):
    first = new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_markdown_cell(text), first, *(new_code_cell(cell.strip()) for cell in cells)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def work(tmp_path):
    return write_notebook(tmp_path / "07_work.ipynb", PARAMETERS, WORK)


def spec_of(notebook, **stage):
    return parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": [{"notebook": str(notebook), **stage}]})


def test_the_preset_is_planned_in_full_with_the_summary_last(tmp_path):
    assert "quickstart" in presets()
    runs = plan(load_spec("quickstart"), tmp_path / "out")
    settings = {(r.parameters.get("method"), r.parameters.get("atoms"), r.parameters.get("block")) for r in runs}
    atoms = "filter-subspace"
    wanted = {
        ("linear", None, None),
        (atoms, 6, None),
        (atoms, 9, None),
        (atoms, 9, 2),
        (atoms, 9, 4),
        ("full", None, None),
    }
    assert wanted <= settings
    assert [run.reads_records for run in runs] == [False] * (len(runs) - 1) + [True]
    assert len({run.run_id for run in runs}) == len(runs)
    assert not (tmp_path / "out").exists()  # planning writes nothing


def test_identity_follows_code_and_parameters_but_not_words(work, tmp_path):
    ids = [run.run_id for run in plan(spec_of(work, runs=[{"rate": 0.1}, {"rate": 0.2}], seeds=[0, 1]), tmp_path)]
    assert [name.rsplit("-", 1)[0] for name in ids] == [f"work-rate{r}-seed{s}" for r in (0.1, 0.2) for s in (0, 1)]
    first = plan(spec_of(work), tmp_path)[0]
    write_notebook(work, PARAMETERS, "# a comment\n" + WORK, text="# Other words")
    reworded = plan(spec_of(work), tmp_path)[0]
    assert reworded.run_id == first.run_id
    assert reworded.text != first.text
    write_notebook(work, PARAMETERS, WORK, "print(1)")
    assert plan(spec_of(work), tmp_path)[0].run_id != first.run_id


def test_a_grid_is_spread_over_the_runs(work, tmp_path):
    runs = plan(spec_of(work, runs=[{"fail": False}], grid={"rate": [0.1, 0.2], "size": [None, 3]}), tmp_path)
    assert [(run.parameters["rate"], run.parameters["size"]) for run in runs] == [
        (0.1, None),
        (0.1, 3),
        (0.2, None),
        (0.2, 3),
    ]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"parameters": {"rat": 1.0}}, "has no parameter 'rat'; did you mean 'rate'?"),
        ({"parameters": {"rate": "fast"}}, "rate must be float, got 'fast'"),
        ({"parameters": {"rate": "1e-3"}}, "YAML wants 1.0e-3"),
        ({"parameters": {"size": 2.5}}, "size must be int or None, got 2.5"),
        ({"parameters": {"fail": 1}}, "fail must be bool, got 1"),
        ({"parameters": {"rate": float("nan")}}, "finite"),
        ({"parameters": {"out_dir": "x"}}, "'out_dir' is set by the runner"),
        ({"seeds": [0], "parameters": {"seed": 1}}, "not both"),
        ({"seeds": ["a"]}, "seeds[0] should be a whole number, got 'a'"),
        ({"runs": [3]}, "runs[0] should be a mapping, got 3"),
        ({"grid": {"rate": 0.1}}, "grid.rate should be a list, got 0.1"),
        ({"sedes": [0]}, "unknown key 'sedes'; did you mean 'seeds'?"),
        ({"reads_records": True}, "no parameter 'records_dir'"),
    ],
)
def test_a_bad_stage_is_one_clear_line_before_anything_runs(work, tmp_path, stage, message):
    with pytest.raises(FiltersubError) as raised:
        run_ablation(spec_of(work, **stage), tmp_path / "out")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_unreadable_specs_and_unknown_names_are_one_clear_line(tmp_path):
    with pytest.raises(FiltersubError, match="did you mean 'quickstart'"):
        load_spec("quickstrat")
    with pytest.raises(FiltersubError, match="did you mean '02_tuning'"):
        find_notebook("02_tunning")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(FiltersubError, match="not valid YAML"):
        load_spec(broken)
    broken.write_text("- a list")
    with pytest.raises(FiltersubError, match="should be a mapping, got"):
        load_spec(broken)
    with pytest.raises(FiltersubError, match="cannot read"):
        load_spec(tmp_path / "absent.yaml")


def test_workers_and_output_folder_are_checked(work, tmp_path):
    with pytest.raises(FiltersubError, match="workers must be at least 1, got 0"):
        run_ablation(spec_of(work), tmp_path / "out", workers=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FiltersubError, match="cannot make the folder"):
        run_ablation(spec_of(work), tmp_path / "file" / "out")


def test_parameters_are_read_and_never_run(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "rate = __import__('os').getpid()")
    with pytest.raises(FiltersubError, match="literals only"):
        notebook_parameters(path)
    path = write_notebook(tmp_path / "n.ipynb", PARAMETERS)
    assert notebook_parameters(path)["size"] == ("int | None", None)
    check_parameters({"rate": 1, "size": None}, notebook_parameters(path), "here")


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_runs_fail_alone_are_kept_and_found_again(work, tmp_path, capfd):
    """One ablation, three times: with a failure; again; and after the failure's cause is gone."""
    out, reader = tmp_path / "out", write_notebook(tmp_path / "read.ipynb", 'records_dir = "."\nout_dir = "."', READ)
    silent = write_notebook(tmp_path / "silent.ipynb", 'out_dir = "."', "print('no record')")
    stages = [
        {"notebook": str(work), "runs": [{"rate": 0.25}, {"rate": 0.75, "fail": True}]},
        {"notebook": str(reader), "reads_records": True},
        {"notebook": str(silent)},
    ]
    spec = parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": stages})

    summary = run_ablation(spec, out)
    good, bad, mute, last = plan(spec, out)
    assert (set(summary.done), set(summary.failed)) == ({good.run_id, last.run_id}, {bad.run_id, mute.run_id})
    assert summary.exit_code == 1
    assert "wrote no record.json" in (mute.folder / "error.txt").read_text()
    assert (bad.folder / "error.txt").read_text().startswith("AssertionError: asked to fail (cell 3 of 07_work.ipynb)")
    assert "This run failed" in (bad.folder / "notebook.html").read_text()
    assert (bad.folder / "notebook.ipynb").exists()
    assert is_finished(good)
    assert not is_finished(bad)
    executed = (good.folder / "notebook.ipynb").read_text()
    assert str(tmp_path) not in executed  # no place on this machine
    assert "records read: 1" in (last.folder / "notebook.html").read_text()
    assert not list(out.rglob("*.part*"))
    assert [failure.run_id for failure in collect(out).failures] == [bad.run_id, mute.run_id]
    assert f"failed {bad.run_id}: AssertionError: asked to fail" in capfd.readouterr().out

    made = (good.folder / "record.json").stat().st_mtime_ns
    (good.folder / "log.txt").touch()  # as a command leaves it that is killed while this run ends
    stages[0]["runs"].pop()
    stages.pop()
    spec = parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": stages})
    again = run_ablation(spec, out)
    assert (again.done, again.reused, again.exit_code) == ((), (good.run_id, last.run_id), 0)
    assert "2 of 2 runs are there already; nothing to run" in capfd.readouterr().out
    assert (good.folder / "record.json").stat().st_mtime_ns == made
    assert not (good.folder / "log.txt").exists()
    assert tuning_table(collect(out).records)["test_accuracy"].tolist() == [0.25]


@pytest.mark.notebook
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("sent", ["SIGINT", "SIGKILL"])
def test_interruption_keeps_what_is_finished_and_ends_the_children(work, tmp_path, sent):
    out = tmp_path / "out"
    stage = {"notebook": str(work), "runs": [{"wait": 0.0}, {"wait": 300.0}]}
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}))
    # A shell that starts a job in the background has it ignore Ctrl-C; a terminal does not.
    *python, code = LIGHT_COMMAND
    command = [*python, f"import signal; signal.signal(2, signal.default_int_handler); {code}"]
    command += ["ablate", str(tmp_path / "s.yaml"), "--out", str(out)]
    temporary = tmp_path / "t"
    temporary.mkdir()
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)})
    short, long = plan(load_spec(tmp_path / "s.yaml"), out)
    deadline = time.monotonic() + 300  # a busy machine
    while not (is_finished(short) and (long.folder / "started").exists()):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2  # the notebook's process and its kernel
    parent.send_signal(getattr(signal, sent))
    said = parent.communicate(timeout=30)[1].decode()
    told = "filtersub: interrupted; what was finished is kept, run the same command to go on\n"
    assert (parent.returncode, said) == {"SIGINT": (130, told), "SIGKILL": (-signal.SIGKILL, "")}[sent]
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert is_finished(short)
    assert not is_finished(long)
    assert list(read_records(out)[0]) == [short.folder]
    assert not list(temporary.glob("*.json"))  # a kernel's addresses lie with its sockets, which are swept


@pytest.mark.notebook
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_machine_that_slept_goes_on_where_it_was(work, tmp_path):
    """For longer than Dask waits to hear of a worker: here 1 s, which Dask takes as ten heartbeats, 5 s."""
    out = tmp_path / "out"
    stage = {"notebook": str(work), "runs": [{"wait": 3.0}, {"wait": 0.0}]}
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}))
    command = [*LIGHT_COMMAND, "ablate", str(tmp_path / "s.yaml"), "--out", str(out), "--workers=1"]
    impatient = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1s"}
    parent = subprocess.Popen(command, env=impatient, stdout=subprocess.PIPE)
    first, second = plan(load_spec(tmp_path / "s.yaml"), out)
    deadline, asleep = time.monotonic() + 180, [psutil.Process(parent.pid)]
    try:
        while not (first.folder / "started").exists():
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asleep += asleep[0].children(recursive=True)
        for process in asleep:
            process.suspend()
        time.sleep(8)
        for process in asleep:
            process.resume()
        said = parent.communicate(timeout=60)[0].decode()
        assert parent.returncode == 0, said
    finally:
        for process in asleep:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert is_finished(first)
    assert is_finished(second)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_batch_without_a_worker_says_so(terminal, work, tmp_path):
    runs = plan(spec_of(work, runs=[{"wait": 0.0}]), tmp_path)
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    with RunProgress(len(runs), line_every=0.0, console=console) as progress:
        progress.update(runs, no_worker=lambda: True)
    assert "no Dask worker is left; waiting for one" in text.getvalue()
