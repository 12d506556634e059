"""What an ablation would run: each run's trained parameters by closed formulas, and its time where it is known."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import FiltersubError
from .notebook_contract import notebook_parameters
from .planning import Run
from .run_times import RunTimes


@dataclass(frozen=True)
class DryRun:
    """The plan as a table, and the sum of its times.

    Attributes
    ----------
    runs : one row a run: run_id, notebook, finished (bool), trainable (without head), head, total (integers, None where
        the run tunes no model or its count is not known), printed (the count that the paper prints for the run, None
        where it prints none), gives (this run's count in the place of the printed one), seconds (float or None), basis
        (what the time was taken from), note (why a run that tunes a model is not counted, else None)
    seconds : of all that is not finished, over the workers; None as soon as one run's time is not known
    claims : what the paper says of trained parameters in the parts that are run, beside the reading's
    """

    runs: pd.DataFrame
    seconds: float | None
    claims: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        rows = self.runs.astype(object).where(self.runs.notna(), None)
        return {"runs": rows.to_dict("records"), "seconds": self.seconds, "claims": list(self.claims)}


def dry_run(
    runs: list[Run],
    finished: set[str],
    times: RunTimes,
    workers: int,
    claims: tuple[dict[str, Any], ...] = (),
    on_run: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> DryRun:
    """Count and time planned runs, of which those by the names ``finished`` are there; nothing is run."""
    rows, left, known = [], [], True
    defaults = {path: _defaults(path) for path in {run.notebook for run in runs}}
    for number, run in enumerate(runs, start=1):
        on_run("counted runs", number, len(runs))
        values = {**defaults[run.notebook], **run.parameters}
        expected = times.of(run.notebook.stem, run.parameters)
        row = {"run_id": run.run_id, "notebook": run.notebook.stem, "finished": run.run_id in finished}
        *counts, note = _count(values)
        row |= dict(zip(("trainable", "head", "total"), counts, strict=True))
        row |= dict(zip(("printed", "gives"), _printed(values, counts[0]), strict=True))
        row |= {"seconds": expected and round(expected.seconds, 1), "basis": expected.basis if expected else "unknown"}
        row["note"] = note
        rows.append(row)
        if run.run_id not in finished:
            known &= expected is not None
            left.append(expected.seconds if expected else 0.0)
    table = pd.DataFrame(rows).astype(dict.fromkeys(("trainable", "head", "total"), "Int64"))
    return DryRun(table, round(makespan(left, workers), 1) if known else None, claims)


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


def _defaults(notebook: Path) -> dict[str, Any]:
    return {name: default for name, (_, default) in notebook_parameters(notebook).items()}


def _count(values: dict[str, Any]) -> tuple[int | None, int | None, int | None, str | None]:
    """(trainable, head, total, why there is no count) of a notebook that tunes a model, by its parameters' names."""
    if not {"model", "method"} <= set(values):
        return None, None, None, None
    try:
        found = _counted(json.dumps({name: value for name, value in values.items() if name != "seed"}, sort_keys=True))
    except FiltersubError as error:  # data or weights that are elsewhere, a method without a formula
        return None, None, None, str(error)
    return found.trainable, found.head, found.total, None


def _printed(values: dict[str, Any], trainable: int | None) -> tuple[str | None, str | None]:
    """(count that the paper prints for the run, this one's in its place)."""
    from ..paper import printed_beside

    found = None if trainable is None else printed_beside(values, trainable)
    return (None, None) if found is None else (found[0], found[1].computed)


@functools.lru_cache(maxsize=256)
def _counted(text: str) -> Any:
    """The count of settings, given as JSON so that it is made once for all seeds."""
    from ..data import n_classes
    from ..models import head_name
    from ..paper import count_settings

    values = json.loads(text)
    model, data = values["model"], values.get("data")
    own = _architecture(model, None)
    head = own.get_submodule(head_name(own)) if data is not None and head_name(own) else None
    if data is None or not hasattr(head, "out_features"):  # a head of another kind is built
        return count_settings(_architecture(model, None if data is None else n_classes(data)), values, model)
    found = count_settings(own, values, model)
    in_head = found.head // head.out_features * n_classes(data)
    return replace(found, head=in_head, total=found.total - found.head + in_head)


@functools.lru_cache(maxsize=16)
def _architecture(model: str, classes: int | None) -> Any:
    from ..parameters import load_architecture

    return load_architecture(model, num_classes=classes)
