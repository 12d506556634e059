"""A grid of settings becomes notebook runs becomes records: many at once, here or on a cluster, none made twice.

Dask hands out the runs (slots of this process by default, or the workers of a scheduler); each run is a child process
of its slot, see filtersub.notebook_run. A run that fails leaves its error behind and the others go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .ablation_spec import OUT_DIR, RECORDS_DIR, RUNS_FOLDER, Run, Spec, find_notebook, load_spec, plan, presets
from .errors import FiltersubError
from .files import make_folder, write_json, write_text
from .notebook_run import ERROR_FILE, HTML_FILE, RUN_FILE, read_state, update_state
from .records import RECORD_FILE, read_records
from .run_progress import RunProgress

__all__ = ["AblationSummary", "Run", "Spec", "find_notebook", "load_spec", "plan", "presets", "run_ablation"]

ABLATION_FILE = "ablation.json"
_LOG_FILE = "log.txt"
_CAPS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_children: set[subprocess.Popen[bytes]] = set()  # of this process, to be ended with it


@dataclass(frozen=True)
class AblationSummary:
    """How an ablation went: run_ids by what became of them."""

    root: Path
    done: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every run is there, 1 when some failed."""
        return 1 if self.failed else 0


def run_ablation(
    spec: Spec | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    force: bool = False,
) -> AblationSummary:
    """Run what is missing of an ablation and write all of it below ``out``.

    Parameters
    ----------
    spec : Spec, the name of a preset, or the path of a YAML file
    out : folder; ``runs/RUN_ID/`` holds each run, ``ablation.json`` what was planned
    workers : notebooks at once on this machine, the cores shared evenly among them; default one a core
    scheduler : address of a Dask scheduler whose workers see ``out`` under the same path; ``workers`` is theirs then
    force : run again what is there already

    Raises FiltersubError, before anything runs, for a bad spec, a parameter that a notebook does not have, or an
    output folder that cannot be written. KeyboardInterrupt ends the children and keeps every finished run.
    """
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    workers = _cores() if workers is None else workers
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise FiltersubError(f"workers must be a positive integer, got {workers!r}")
    runs = plan(spec, out)
    root = make_folder(Path(out).resolve())
    make_folder(root / RUNS_FOLDER)
    _write_plan(spec, runs, root)
    progress = RunProgress(len(runs))
    training = [run for run in runs if not run.reads_records]
    reading = [run for run in runs if run.reads_records]
    outcome: dict[str, str] = {}
    threads = None if scheduler is not None else _cores() // workers
    with _slots(workers, scheduler) as client, progress:
        for group in (training, reading):
            inputs = None if group is training else _fingerprint(root)
            missing = [run for run in group if force or not is_finished(run, inputs)]
            progress.reused(len(group) - len(missing))
            outcome.update({run.run_id: "reused" for run in group if run not in missing})
            for run in missing:
                _prepare(run, inputs, force)
            outcome.update(_run_group(missing, threads, client, progress))
    chosen = {state: tuple(name for name, got in outcome.items() if got == state) for state in ("done", "reused")}
    failed = tuple(name for name, got in outcome.items() if got == "failed")
    return AblationSummary(root, chosen["done"], chosen["reused"], failed)


def is_finished(run: Run, inputs: str | None = None) -> bool:
    """Whether a run is there whole: its notebook ran to the end, with its HTML, and its record (or the same inputs)."""
    state = read_state(run.folder)
    same = state.get("status") == "done" and state.get("inputs") == inputs and state.get("text") == run.text
    if not same or not (run.folder / HTML_FILE).is_file():
        return False
    return run.reads_records or (run.folder / RECORD_FILE).is_file()


def _write_plan(spec: Spec, runs: list[Run], root: Path) -> None:
    """What a report needs to know of the plan; paths are relative to ``root``, so the folder can move."""
    planned = [
        {
            "run_id": run.run_id,
            "notebook": run.notebook.stem,
            "parameters": run.parameters,
            "reads_records": run.reads_records,
            "folder": run.folder.relative_to(root).as_posix(),
        }
        for run in runs
    ]
    source = Path(spec.source).name if Path(spec.source).is_absolute() else spec.source
    heading = {"name": spec.name, "title": spec.title, "question": spec.question, "source": source}
    write_json(root / ABLATION_FILE, {**heading, "runs": planned})


def _fingerprint(root: Path) -> str:
    """A digest of every record below the folder: what the reading notebooks read."""
    digest = hashlib.sha256()
    for folder in read_records(root)[0]:
        digest.update(folder.relative_to(root).as_posix().encode() + (folder / RECORD_FILE).read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _slots(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A Dask client: of the scheduler given, or of threads of this process, each a slot for one child process."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise FiltersubError(f"no Dask scheduler answers at {scheduler!r}: {error}") from None
        with client:
            yield client
        return
    local = {"processes": False, "n_workers": 1, "threads_per_worker": workers, "memory_limit": 0, "silence_logs": 50}
    # None would still serve Dask's pages, to the whole network and on a port that may be taken.
    nowhere = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(**local, **nowhere) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_group(runs: list[Run], threads: int | None, client: Any, progress: RunProgress) -> dict[str, str]:
    """Run these side by side; "done" or "failed" by run_id."""
    arguments = [(str(run.notebook), str(run.folder), threads) for run in runs]
    futures = {client.submit(run_child, *each, pure=False): run for each, run in zip(arguments, runs, strict=True)}
    outcome: dict[str, str] = {}
    try:
        while len(outcome) < len(runs):
            for future, run in futures.items():
                if run.run_id not in outcome and future.done():
                    outcome[run.run_id] = _outcome(future, run)
                    progress.ended(run.run_id, outcome[run.run_id], _first_line(run.folder / ERROR_FILE))
            progress.update([run.folder for run in runs if run.run_id not in outcome])
            time.sleep(0.25)
    except BaseException:
        end_children()
        with contextlib.suppress(Exception):  # a scheduler that is gone must not hide why this ends
            client.cancel(list(futures), force=True)
            client.run(end_children)
        raise
    return outcome


def _prepare(run: Run, inputs: str | None, force: bool) -> None:
    """The run's folder with its ``run.json``; what an interrupted run resumes from stays, unless forced."""
    if force and run.folder.exists():
        shutil.rmtree(run.folder)
    make_folder(run.folder)
    for name in (ERROR_FILE, HTML_FILE):
        (run.folder / name).unlink(missing_ok=True)
    passed = {**run.parameters, OUT_DIR: "."}
    if run.reads_records:
        # Two levels up: OUT/runs/RUN_ID. Relative, so that the executed notebook names no place on this machine.
        passed[RECORDS_DIR] = "../.."
    described = {"run_id": run.run_id, "notebook": run.notebook.stem, "parameters": run.parameters, "text": run.text}
    write_json(run.folder / RUN_FILE, {**described, "passed": passed, "inputs": inputs, "status": "waiting"})


def _outcome(future: Any, run: Run) -> str:
    """What became of a run, with ``error.txt`` written where its child could not do so."""
    error = None
    if future.status != "finished":
        error = f"the worker lost it: {future.exception() if future.status == 'error' else future.status}"
    elif future.result() != 0 and not (run.folder / ERROR_FILE).exists():
        log = (run.folder / _LOG_FILE).read_text(encoding="utf-8", errors="replace")
        code = future.result()
        how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        error = f"the notebook's process {how}\n\n{log}"
    elif future.result() == 0 and not run.reads_records and not (run.folder / RECORD_FILE).exists():
        error = f"the notebook ran but wrote no {RECORD_FILE} into its out_dir"
    if error is not None:
        write_text(run.folder / ERROR_FILE, error)
        update_state(run.folder, status="failed")
    failed = error is not None or future.result() != 0
    if not failed:
        (run.folder / _LOG_FILE).unlink(missing_ok=True)
    return "failed" if failed else "done"


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""


def run_child(notebook: str, folder: str, threads: int | None = None) -> int:
    """Run a notebook's process to its end and return its exit code; runs inside a slot.

    ``threads`` caps what numerical libraries start; default this machine's cores over its Dask worker's slots.
    """
    if threads is None:
        from distributed import get_worker

        threads = _cores() // get_worker().state.nthreads
    # A kernel of the same name in the user's home must not come before this environment's own.
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"} | dict.fromkeys(_CAPS, str(max(1, threads)))
    command = [sys.executable, "-m", "filtersub.notebook_run", notebook, folder]
    with open(Path(folder) / _LOG_FILE, "wb") as log:
        # A session of its own keeps Ctrl-C for the parent; the open stdin tells the child that the parent lives.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    _children.add(child)
    try:
        return child.wait()
    finally:
        _children.discard(child)


def end_children() -> None:
    """Kill every notebook process that this process started, with its kernel."""
    for child in list(_children):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(child.pid)
            for part in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    part.kill()
