"""What an ablation would run: each run's trained parameters by closed formulas, and its time where it is known."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pandas as pd

from ..errors import FiltersubError
from ..settings import taken_from
from .notebook_contract import notebook_parameters
from .planning import Run
from .run_times import RunTimes


@dataclass(frozen=True)
class DryRun:
    """The plan as a table, and the sum of its times.

    Attributes
    ----------
    runs : one row a run: run_id, notebook, finished (bool), trainable (without head), head, total (integers, None where
        the run tunes no model or its count is not known), seconds (float or None), basis (what the time was taken from)
    seconds : of all that is not finished, over the workers; None as soon as one run's time is not known
    """

    runs: pd.DataFrame
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        rows = self.runs.astype(object).where(self.runs.notna(), None)
        return {"runs": rows.to_dict("records"), "seconds": self.seconds}


def dry_run(
    runs: list[Run],
    finished: set[str],
    times: RunTimes,
    workers: int,
    on_run: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> DryRun:
    """Count and time planned runs, of which those by the names ``finished`` are there; nothing is run."""
    rows, left, known = [], [], True
    for number, run in enumerate(runs, start=1):
        on_run("counted runs", number, len(runs))
        expected = times.of(run.notebook.stem, run.parameters)
        row = {"run_id": run.run_id, "notebook": run.notebook.stem, "finished": run.run_id in finished}
        row |= dict(zip(("trainable", "head", "total"), _count(run), strict=True))
        row |= {"seconds": expected and round(expected.seconds, 1), "basis": expected.basis if expected else "unknown"}
        rows.append(row)
        if run.run_id not in finished:
            known &= expected is not None
            left.append(expected.seconds if expected else 0.0)
    table = pd.DataFrame(rows).astype(dict.fromkeys(("trainable", "head", "total"), "Int64"))
    return DryRun(table, round(makespan(left, workers), 1) if known else None)


def makespan(seconds: list[float], workers: int) -> float:
    """When the last run ends, if each worker takes the next one as soon as it is free.

    >>> makespan([4.0, 1.0, 1.0, 1.0], 2)
    4.0
    """
    free = [0.0] * workers
    for each in seconds:
        first = free.index(min(free))
        free[first] += each
    return max(free)


def _count(run: Run) -> tuple[int | None, int | None, int | None]:
    """(trainable, head, total) of a notebook that tunes a model, by its own parameters' names."""
    defaults = {name: default for name, (_, default) in notebook_parameters(run.notebook).items()}
    values = {**defaults, **run.parameters}
    if not {"model", "method"} <= set(values):
        return None, None, None
    try:
        found = _counted(json.dumps(values, sort_keys=True))
    except FiltersubError:  # a file of weights that is elsewhere, a method without a formula
        return None, None, None
    return found.trainable, found.head, found.total


@functools.lru_cache(maxsize=256)
def _counted(parameters: str) -> Any:
    from ..decomposition import DecompositionConfig
    from ..parameters import BaselineOptions, count_parameters

    values = SimpleNamespace(**json.loads(parameters))
    method = "coefficients" if getattr(values, "train_coefficients", False) else values.method
    return count_parameters(
        _architecture(values.model, getattr(values, "data", None)),
        method,
        recipe=taken_from(values, DecompositionConfig),
        overrides=getattr(values, "overrides", None),
        options=taken_from(values, BaselineOptions),
        layers=getattr(values, "layers", None),
        name=values.model,
    )


@functools.lru_cache(maxsize=16)
def _architecture(model: str, data: str | None) -> Any:
    from ..data import n_classes
    from ..parameters import load_architecture

    return load_architecture(model, num_classes=None if data is None else n_classes(data))
