"""How long a run will take, from runs of the same settings that were timed on such a machine; unknown otherwise."""

import functools
import json
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import is_hidden
from ..printable import counted
from ..version import processor
from .notebook_run import RUN_FILE, read_state

RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Estimate:
    """Seconds, and what they were taken from."""

    seconds: float
    basis: str


def machine(threads: int, on_gpu: bool) -> dict[str, Any]:
    """What decides how long a run takes here: processor, threads, and the GPU's name where one is used."""
    return {"processor": processor(), "threads": threads, "gpu": _gpu_name() if on_gpu else None}


@functools.cache
def _gpu_name() -> str:
    return next(iter(nvidia_smi("--query-gpu=name", "--format=csv,noheader")), "GPU")


def nvidia_smi(*arguments: str) -> list[str]:
    """The lines that the driver's tool writes; empty where it is not there, or cannot answer."""
    try:
        run = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return run.stdout.splitlines()


class RunTimes:
    """Times of finished runs, first those below ``root/runs``, then those of the folders beside ``root``.

    Two runs are alike when notebook and parameters agree but for ``seed``; where ``epochs`` differ too, the time is
    scaled with them. Only runs on a machine like ``here`` (as machine() describes it) count.
    """

    def __init__(self, root: Path, here: Mapping[str, Any]) -> None:
        self._here = dict(here)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._per_epoch: dict[str, list[float]] = defaultdict(list)
        found = {*root.glob(f"{RUNS_FOLDER}/*/{RUN_FILE}"), *root.parent.glob(f"*/{RUNS_FOLDER}/*/{RUN_FILE}")}
        for path in sorted(found):
            if not is_hidden(path, root.parent):  # half copied
                self.add(path.parent)

    def add(self, folder: Path) -> None:
        """Count a run's folder, if it is finished and was made on such a machine."""
        state = read_state(folder)
        if state.get("status") != "done" or state.get("machine") != self._here or "seconds" not in state:
            return
        name, parameters = state.get("notebook", ""), state.get("parameters", {})
        self._seconds[_key(name, parameters, "seed")].append(state["seconds"])
        if _epochs(parameters):
            self._per_epoch[_key(name, parameters, "seed", "epochs")].append(state["seconds"] / parameters["epochs"])

    def estimate(self, notebook: str, parameters: Mapping[str, Any]) -> Estimate | None:
        """What such a run should take; None where no like run is known."""
        if seconds := self._seconds.get(_key(notebook, parameters, "seed")):
            return Estimate(statistics.median(seconds), _counted(len(seconds), "of these settings"))
        epochs = _epochs(parameters)
        if epochs and (rates := self._per_epoch.get(_key(notebook, parameters, "seed", "epochs"))):
            basis = _counted(len(rates), "of other numbers of epochs, in proportion")
            return Estimate(epochs * statistics.median(rates), basis)
        return None


def _counted(runs: int, what: str) -> str:
    return f"{counted(runs, 'earlier run')} {what}"


def _key(notebook: str, parameters: Mapping[str, Any], *without: str) -> str:
    kept = {name: value for name, value in parameters.items() if name not in without}
    return json.dumps([notebook, kept], sort_keys=True)


def _epochs(parameters: Mapping[str, Any]) -> int:
    epochs = parameters.get("epochs")
    return epochs if type(epochs) is int and epochs > 0 else 0
