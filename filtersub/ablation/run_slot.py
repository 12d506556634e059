"""What a slot of a Dask worker does: one notebook in a process of its own, with its share of cores and one GPU.

Everything here runs in the worker. The processes are forked from a warm one where that is possible (warm_start), and
started cold elsewhere; both end with the worker, however it ends.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..processes import DECOMPOSITIONS, cores, end_tree
from .notebook_run import RUN_FILE, update_state
from .run_times import machine, nvidia_smi
from .warm_start import AVAILABLE, WarmStart

LOG_FILE = "log.txt"
_GLANCE = 1.0  # seconds between two looks at whether a run is still wanted
DECOMPOSITIONS_FOLDER = ".decompositions"  # of layers that the runs of an ablation share, until all runs are there
_CAPS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_cold_runs: dict[subprocess.Popen[bytes], str] = {}  # of this process, with the ablation of each
_warm: dict[str, WarmStart] = {}  # by ablation
_gpu_uses: Counter[str] = Counter()
_lock = threading.Lock()


@dataclass(frozen=True)
class Terms:
    """What all runs of one ablation share.

    Attributes
    ----------
    ablation : names this call, whose warm process no other one uses (the package may have changed since)
    threads : by the address of a Dask worker, of its numerical libraries in each run
    warm : fork runs from a warm process where this machine can
    environment : variables of every run
    """

    ablation: str
    threads: dict[str, int] = field(default_factory=dict)
    warm: bool = True
    environment: dict[str, str] = field(default_factory=dict)


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, or every GPU where it is not set; CUDA itself is not started for that."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    listed = [line for line in nvidia_smi("-L") if line.startswith("GPU ")]
    return [str(n) for n in range(len(listed))]


def run_child(notebook: str, folder: str, terms: Terms) -> int:
    """Run a notebook's process to its end and return its exit code, negative for the signal that killed it."""
    from distributed import get_worker

    if not Path(folder, RUN_FILE).exists():  # a worker that joined after all others were asked
        raise FiltersubError(f"the worker on {socket.gethostname()} does not see {folder}; it needs the output folder")
    worker = get_worker()
    # One that joined late shares this machine with nobody that is known of.
    threads = terms.threads.get(worker.address, max(1, cores() // worker.state.nthreads))
    log = Path(folder) / LOG_FILE
    with _one_gpu() as gpu, _while_wanted(worker, terms.ablation):
        # A kernel of the same name in the user's home must not come before this environment's own.
        own = {"JUPYTER_PREFER_ENV_PATH": "1"} | dict.fromkeys(_CAPS, str(threads))
        own |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        own |= terms.environment
        own[DECOMPOSITIONS] = str(Path(folder).parents[1] / DECOMPOSITIONS_FOLDER)
        update_state(Path(folder), machine=machine(threads, gpu is not None))
        code = None
        if terms.warm and AVAILABLE:
            request = {"notebook": notebook, "folder": folder, "log": str(log), "environment": own}
            with _warm_start(terms.ablation, own) as warm:
                code = warm.ask(request)
        return _cold(notebook, folder, log, own, terms.ablation) if code is None else code


def end_children(ablation: str) -> None:
    """Kill every notebook process that this process started for an ablation, with its kernel, and its warm process."""
    for child in [child for child, its in list(_cold_runs.items()) if its == ablation]:
        end_tree(child.pid)
    with _lock:
        warm = _warm.pop(ablation, None)
    if warm is not None:
        warm.close()


@contextlib.contextmanager
def _while_wanted(worker: Any, ablation: str) -> Iterator[None]:
    """End an ablation's processes here as soon as its command is gone: Dask forgets its tasks, their threads run on."""
    key, ended = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not ended.wait(_GLANCE):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                end_children(ablation)

    threading.Thread(target=watch, name="filtersub-wanted", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextlib.contextmanager
def _warm_start(ablation: str, own: dict[str, str]) -> Iterator[WarmStart]:
    """The ablation's warm process. Those of other ablations end where none of their runs is in progress."""
    with _lock:
        for other in [name for name, its in _warm.items() if name != ablation and not its.runs]:
            _warm.pop(other).close()
        if ablation not in _warm:
            _warm[ablation] = WarmStart({**os.environ, **own})
        warm = _warm[ablation]
        warm.runs += 1
    try:
        yield warm
    finally:
        with _lock:
            warm.runs -= 1


def _cold(notebook: str, folder: str, log: Path, own: dict[str, str], ablation: str) -> int:
    command = [sys.executable, "-m", "filtersub.ablation.notebook_run", notebook, folder]
    # A session of its own keeps Ctrl-C for the parent; the open stdin tells the child that the parent lives.
    options = {"stdin": subprocess.PIPE, "env": {**os.environ, **own}, "start_new_session": True}
    with open(log, "wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, **options)
    _cold_runs[child] = ablation
    try:
        return child.wait()
    finally:
        del _cold_runs[child]
        child.stdin.close()


@contextlib.contextmanager
def _one_gpu() -> Iterator[str | None]:
    """The visible GPU that the fewest runs of this worker use; None where there is none."""
    gpus = visible_gpus()
    if not gpus:
        yield None
        return
    with _lock:
        chosen = min(gpus, key=_gpu_uses.__getitem__)
        _gpu_uses[chosen] += 1
    try:
        yield chosen
    finally:
        with _lock:
            _gpu_uses[chosen] -= 1
