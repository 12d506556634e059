"""Runs that end badly, alone: killed kernels and workers, a full disk, a cluster; and warm runs like cold ones."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from dask_processes import start_cluster
from test_ablation import WORK, write_notebook
from warm import LIGHT, LIGHT_CODE

from filtersub.ablation import is_finished, plan, run_ablation, run_slot
from filtersub.ablation.run_slot import DECOMPOSITIONS_FOLDER, cores
from filtersub.ablation.spec import load_spec, parse_spec
from filtersub.ablation.warm_start import AVAILABLE
from filtersub.errors import FiltersubError

pytestmark = [pytest.mark.notebook, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]
PARAMETERS = 'case = "good"\nrate = 0.5\nwait = 0.0\nfail = False\nseed = 0\nout_dir = "."'
CASES = """
import os, signal, threading, time
from pathlib import Path
print("the first part")
here = Path(out_dir)
again = (here / "kernel.txt").exists()
(here / "kernel.txt").write_text(str(os.getpid()))
Path(os.environ["FILTERSUB_DECOMPOSITIONS"]).mkdir(exist_ok=True)
"""
THREADS = """
if not (again and "dies" in case):  # whose threads were counted the first time
    import torch
    (here / "threads.txt").write_text(f"{torch.get_num_threads()} {os.environ['NUMBA_NUM_THREADS']}")
"""
ENDS = """
if case == "kernel dies": os.kill(os.getpid(), signal.SIGKILL)
if case == "process dies": os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)
if case == "waits once" and not again: time.sleep(600)
"""


def spec_of(notebook, runs):
    stages = [{"notebook": str(notebook), "runs": runs}]
    return parse_spec({"name": "t", "title": "T", "question": "Q?", "stages": stages})


def by_case(runs):
    return {run.parameters["case"]: run for run in runs}


@pytest.fixture
def work(tmp_path):
    return write_notebook(tmp_path / "work.ipynb", PARAMETERS, CASES, ENDS, WORK)


@pytest.fixture
def counted(tmp_path):
    """The same work, which notes its threads before it ends."""
    return write_notebook(tmp_path / "counted.ipynb", PARAMETERS, CASES, THREADS, ENDS, WORK)


def text_of(path):
    return "".join(o.get("text", "") for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", []))


@pytest.mark.usefixtures("light_warm_processes")
def test_what_dies_is_marked_with_its_partial_notebook_and_only_that_is_run_again(counted, tmp_path):
    spec = spec_of(counted, [{"case": case} for case in ("good", "kernel dies", "process dies")])
    out = tmp_path / "out"
    summary = run_ablation(spec, out, workers=2)
    runs = by_case(plan(spec, out))
    assert summary.done == (runs["good"].run_id,)
    assert set(summary.failed) == {runs["kernel dies"].run_id, runs["process dies"].run_id}
    assert "DeadKernelError" in (runs["kernel dies"].folder / "error.txt").read_text().splitlines()[0]
    assert "was killed by SIGKILL" in (runs["process dies"].folder / "error.txt").read_text().splitlines()[0]
    for case in ("kernel dies", "process dies"):
        assert "the first part" in text_of(runs[case].folder / "notebook.ipynb")
        assert json.loads((runs[case].folder / "run.json").read_text())["status"] == "failed"
        assert "This run failed" in (runs[case].folder / "notebook.html").read_text()
    for run in runs.values():  # no two runs fight over threads
        assert (run.folder / "threads.txt").read_text() == f"{max(1, cores() // 2)} {max(1, cores() // 2)}"
    assert not list(out.rglob("*.part*"))
    assert (out / DECOMPOSITIONS_FOLDER).is_dir(), "what runs share stays for those that are made again"
    made = (runs["good"].folder / "record.json").stat().st_mtime_ns
    assert set(run_ablation(spec, out, warm=False).failed) == set(summary.failed)
    assert (runs["good"].folder / "record.json").stat().st_mtime_ns == made


@pytest.mark.skipif(not AVAILABLE, reason="warm processes fork, which is sound on Linux alone")
def test_a_warm_run_shows_what_a_cold_one_shows(tmp_path, monkeypatch):
    """Two warm runs beside a cold one; the warm process imports what the notebook does."""
    monkeypatch.setattr(run_slot.WarmStart, "SERVER", (str(LIGHT), "torch", "matplotlib.pyplot", "pandas"))
    shown = """
import os, sys, torch, matplotlib.pyplot as plt, numpy as np, pandas as pd
from torch.utils.data import DataLoader
print(os.path.basename(os.getcwd())[:2], torch.get_num_threads(), sys.path[0] == os.getcwd())
print([batch.tolist() for batch in DataLoader([1, 2], num_workers=1)], file=sys.stderr)
pd.DataFrame({"a": [1]})
"""
    figure = "fig, ax = plt.subplots(figsize=(1, 1)); ax.plot([1, 2]); plt.show(); plt.plot([2, 1]);"
    numbers = 'print("a draw", np.random.rand(), torch.rand(1).item())'
    shared = "from pathlib import Path; Path(os.environ['FILTERSUB_DECOMPOSITIONS']).mkdir(exist_ok=True)"
    note = write_notebook(tmp_path / "n.ipynb", PARAMETERS, shown, figure, numbers, shared, WORK)
    outputs = {}
    for warm, rates in ((True, (0.1, 0.2)), (False, (0.1,))):
        spec, out = spec_of(note, [{"rate": rate} for rate in rates]), tmp_path / str(warm)
        assert run_ablation(spec, out, workers=2, warm=warm).failed == ()
        assert not (out / DECOMPOSITIONS_FOLDER).exists()
        for run in plan(spec, out):
            cells = nbformat.read(run.folder / "notebook.ipynb", 4).cells
            outputs[warm, run.parameters["rate"]] = [plain(cell.get("outputs", [])) for cell in cells]
    draws = [cell for found in outputs.values() for cell in found if cell and "a draw" in cell[0]["text"]]
    for drawn in zip(*(cell[0]["text"].split()[2:] for cell in draws), strict=True):
        assert len(set(drawn)) == 3  # no two kernels share numpy's or torch's global generator
    rest = {key: [cell for cell in found if cell not in draws] for key, found in outputs.items()}
    assert rest[True, 0.1] == rest[False, 0.1]
    assert rest[True, 0.2][:-1] == rest[False, 0.1][:-1]  # the last cell shows the rate
    figures = [output for cell in rest[True, 0.1] for output in cell if "image/png" in output.get("data", {})]
    assert len(figures) == 2


def plain(outputs):
    """Outputs without their numbers; what a slow machine sends in pieces is one text."""
    found = []
    for output in outputs:
        kept = {"text": "", **{key: value for key, value in output.items() if key != "execution_count"}}
        if found and output.get("name") and output["name"] == found[-1].get("name"):
            found[-1]["text"] += kept["text"]
        else:
            found.append(kept)
    return found


def test_a_killed_worker_of_a_cluster_loses_nothing(counted, start, tmp_path):
    """A scheduler and two workers in process groups of their own; one is killed, the other takes its run over."""
    spec, out = spec_of(counted, [{"case": "waits once"}, {"case": "good"}]), tmp_path / "out"
    runs = by_case(plan(spec, out))
    cluster, address = start_cluster(tmp_path, start, preload=LIGHT)
    try:
        found = {}
        call = threading.Thread(target=lambda: found.update(summary=run_ablation(spec, out, scheduler=address)))
        call.start()
        kernel = runs["waits once"].folder / "kernel.txt"
        until(lambda: kernel.exists() and kernel.read_text() and is_finished(runs["good"]))
        before = psutil.Process(int(kernel.read_text()))
        worker = next(p for p in before.parents() if p.pid in {w.pid for w in cluster})
        made = (runs["good"].folder / "record.json").stat().st_mtime_ns
        worker.send_signal(signal.SIGKILL)
        call.join(120)
        assert set(found["summary"].done) == {run.run_id for run in runs.values()}
        until(lambda: has_ended(before))
        assert (runs["good"].folder / "record.json").stat().st_mtime_ns == made
        for run in runs.values():  # two workers of one slot each on this machine's cores
            assert (run.folder / "threads.txt").read_text().split()[0] == str(max(1, cores() // 2))
        assert set(run_ablation(spec, out, scheduler=address).reused) == {run.run_id for run in runs.values()}
    finally:
        for process in cluster:
            process.kill()
            process.wait()


@pytest.mark.parametrize("cold", [[], ["--cold"]])
def test_a_killed_command_leaves_no_run_on_a_cluster_and_those_of_others_alone(work, begin, start, tmp_path, cold):
    """Of two ablations on one scheduler one is killed and then finished: the other's run goes on in the same worker."""
    spec = {"name": "t", "title": "T", "question": "Q?", "stages": [{"notebook": str(work), "runs": [
        {"case": "waits once"}, {"case": "waits once", "seed": 1}]}]}  # fmt: skip
    (tmp_path / "own.yaml").write_text(json.dumps(spec))
    cluster, address = start_cluster(tmp_path, start, workers=1, threads=4, preload=LIGHT)
    command = [LIGHT_CODE, "ablate", tmp_path / "own.yaml", "--scheduler", address, *cold]
    try:
        calls, kernels = {}, {}
        for name in ("killed", "left"):
            calls[name] = begin(*command, "--out", tmp_path / name)
            runs = plan(load_spec(tmp_path / "own.yaml"), tmp_path / name)
            files = [run.folder / "kernel.txt" for run in runs]
            until(lambda files=files: all(file.exists() and file.read_text() for file in files))
            kernels[name] = [psutil.Process(int(file.read_text())) for file in files]
        calls["killed"].kill()
        until(lambda: all(has_ended(kernel) for kernel in kernels["killed"]), seconds=20)
        assert begin(*command, "--out", tmp_path / "killed").wait() == 0
        assert not any(has_ended(kernel) for kernel in kernels["left"])
    finally:
        for process in [*calls.values(), *cluster]:
            process.kill()
            process.wait()


@pytest.fixture
def start(begin):
    """Starts a module of Python with these arguments as a session of its own."""
    code = "import os, runpy, sys; os.setsid(); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    return lambda *module: begin(code, *module)


def has_ended(process):
    """Whether it runs no more: an orphan stays as a zombie until the machine's first process takes note of its end."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


FULL = """
import resource, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import light_warm
from filtersub.ablation import is_finished, plan, run_ablation
from filtersub.ablation.spec import parse_spec
out = Path({disk!r}) / "out"
stage = {{"notebook": {notebook!r}, "runs": [{{"rate": 0.1}}, {{"rate": 0.2, "case": "large"}}, {{"rate": 0.3}}]}}
spec = parse_spec({{"name": "t", "title": "T", "question": "Q?", "stages": [stage]}})
good, large, later = plan(spec, out)
{fill}
summary = run_ablation(spec, out, workers=1, warm={warm})
assert summary.failed == (large.run_id,), summary
assert summary.done == (good.run_id, later.run_id), summary
assert is_finished(good) and not is_finished(large) and is_finished(later)
assert not list(out.rglob("*.part*"))
{free}
again = run_ablation(spec, out, workers=1, warm={warm})
assert (again.done, again.reused) == ((large.run_id,), (good.run_id, later.run_id)), again
"""
REMOVES = """
import shutil
from pathlib import Path
run = Path(out_dir)
removed = {"run": run, "all": run.parents[1]}.get(case)
if removed is not None and not (once := run.parents[2] / "once").exists():
    once.touch()
    shutil.rmtree(removed)
"""


@pytest.mark.usefixtures("light_warm_processes")
def test_a_folder_that_is_removed_meanwhile_is_named_and_made_again(tmp_path, capfd):
    notebook = write_notebook(tmp_path / "removes.ipynb", PARAMETERS, REMOVES, WORK)
    spec, out = spec_of(notebook, [{"case": "run"}, {"case": "good"}]), tmp_path / "out"
    gone, good = plan(spec, out)
    summary = run_ablation(spec, out)
    assert (summary.failed, summary.done) == ((gone.run_id,), (good.run_id,))
    told = f"{gone.folder} was removed while the run was in progress"
    assert told in capfd.readouterr().out
    assert (gone.folder / "error.txt").read_text().startswith(told)
    assert run_ablation(spec, out).done == (gone.run_id,)


@pytest.mark.usefixtures("light_warm_processes")
def test_an_output_folder_that_is_removed_ends_the_ablation_in_one_line(tmp_path):
    notebook = write_notebook(tmp_path / "removes.ipynb", PARAMETERS, REMOVES, WORK)
    spec, out = spec_of(notebook, [{"case": "all"}, {"case": "good", "wait": 600.0}]), tmp_path / "out"
    with pytest.raises(FiltersubError, match=r"out was removed or replaced .* run the same command again"):
        run_ablation(spec, out, workers=2)
    spec = spec_of(notebook, [{"case": "all"}, {"case": "good"}])
    assert len(run_ablation(spec, out).done) == 2


LARGE = 'if case == "large": print("x" * 2_000_000)'


@pytest.mark.parametrize("warm", [True, False])
def test_a_full_disk_fails_the_run_that_filled_it_and_no_other(tmp_path, warm):
    disk = tmp_path / "disk"
    disk.mkdir()
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if not can_mount([*private, "sh", "-c", mount]):
        pytest.skip("no file system of its own may be mounted here; a user namespace would do (unshare -rm)")
    free = f'subprocess.run(["mount", "-o", "remount,size=64m", {str(disk)!r}], check=True)'
    code = full_code(tmp_path, disk, warm, free=free)
    run = subprocess.run(
        [*private, "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No space left on device" in run.stdout


def test_a_limit_on_the_size_of_files_fails_the_run_that_met_it_and_no_other(tmp_path):
    """What a quota does, and what an unprivileged user can set where no file system may be mounted."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
    fill, free = limit.format(1_000_000), limit.format("resource.RLIM_INFINITY")
    code = full_code(tmp_path, tmp_path, True, fill=fill, free=free)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "File too large" in run.stdout


def full_code(folder, disk, warm, *, fill="", free=""):
    notebook = write_notebook(folder / "work.ipynb", PARAMETERS, LARGE, WORK)
    tests = str(Path(__file__).parent)
    return FULL.format(tests=tests, disk=str(disk), notebook=str(notebook), warm=warm, fill=fill, free=free)


def can_mount(command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False
