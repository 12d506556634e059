"""What an ablation would run: each run's trained parameters by closed formulas, and its time where it is known."""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import FiltersubError
from .kept_results import KeptResults
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
    *,
    kept: KeptResults,
) -> DryRun:
    """Count and time planned runs, of which those by the names ``finished`` are there; nothing is run.

    ``kept`` holds counts of before, and takes those that are made.
    """
    from ..data import n_classes

    rows, left, known = [], [], True
    classes_of = functools.cache(n_classes)  # a set on disk is opened once
    parameters = {path: notebook_parameters(path) for path in {run.notebook for run in runs}}
    for number, run in enumerate(runs, start=1):
        on_run("counted runs", number, len(runs))
        values = {name: default for name, (_, default) in parameters[run.notebook].items()} | run.parameters
        expected = times.estimate(run.notebook.stem, run.parameters)
        row = {"run_id": run.run_id, "notebook": run.notebook.stem, "finished": run.run_id in finished}
        row |= _count(values, kept, classes_of)
        note = row.pop("note")
        row |= dict(zip(("printed", "gives"), _printed(values, row["trainable"], kept, classes_of), strict=True))
        row |= {"seconds": expected and round(expected.seconds, 1), "basis": expected.basis if expected else "unknown"}
        rows.append({**row, "note": note})
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


def is_of_library(model: object) -> bool:
    """Whether a model is named by an installed library; what is in a folder, a file or a hub can change.

    >>> [is_of_library(name) for name in ("resnet18", "timm:resnet50.a1_in1k", "diffusers:own", "hf-hub:a/b")]
    [True, True, False, False]
    """
    return bool(re.fullmatch(r"((timm|torchvision):)?\w+(\.\w+)?", str(model))) and not Path(str(model)).exists()


def _count(values: dict[str, Any], kept: KeptResults, classes_of: Callable[[str], int]) -> dict[str, Any]:
    """trainable, head, total and note (why there is no count) of a notebook that tunes a model, by its parameters'
    names; None each for others."""
    none = dict.fromkeys(("trainable", "head", "total", "note"))
    if not {"model", "method"} <= set(values):
        return none
    model, data = values["model"], values.get("data")

    def counted_settings() -> list[str]:
        from ..paper import COUNTED

        return list(COUNTED)

    names = kept.result("settings of a count", None, counted_settings)
    settings = {name: value for name, value in values.items() if name in names}
    try:
        classes = None if data is None else classes_of(data)
        if is_of_library(model):
            count = functools.partial(_counted_of_library, settings, model, classes, kept)
            found = kept.result("count", [settings, model, classes], count)
        else:
            found = _counted(json.dumps(settings, sort_keys=True), model, classes)
    except FiltersubError as error:  # data or weights that are elsewhere, a method without a formula
        return none | {"note": str(error)}
    return none | found


def _printed(
    values: dict[str, Any], trainable: int | None, kept: KeptResults, classes_of: Callable[[str], int]
) -> list[str | None]:
    """[count that the paper prints for the run, this one's in its place]."""
    if trainable is None or values.get("data") is None:
        return [None, None]
    settings = {name: value for name, value in values.items() if name != "seed"}

    def make() -> list[str | None]:
        from ..paper import printed_beside

        found = printed_beside(settings, trainable)
        return [None, None] if found is None else [found[0], found[1].computed]

    return kept.result("printed count", [settings, trainable, classes_of(values["data"])], make)


def _counted_of_library(settings: dict[str, Any], model: str, classes: int | None, kept: KeptResults) -> dict[str, int]:
    """The count from the model's outline where that is enough, else from the model itself."""
    from ..parameters.outline import Outline, outline_of, packaged_outline

    def make() -> dict[str, Any] | None:
        found = packaged_outline(model)
        if found is None:
            from ..parameters import architecture

            found = outline_of(architecture(model, None))
        return found and found.to_json()

    outline = kept.result("outline", model, make)
    found = outline and Outline.from_json(outline).count(settings, classes)
    return found or _counted(json.dumps(settings, sort_keys=True), model, classes)


@functools.lru_cache(maxsize=256)
def _counted(text: str, model: str, classes: int | None) -> dict[str, int]:
    """The count of settings, given as JSON so that it is made once for all seeds."""
    from ..models import head_name
    from ..paper import count_settings
    from ..parameters import architecture

    values = json.loads(text)
    own = architecture(model, None)
    head = own.get_submodule(head_name(own)) if classes is not None and head_name(own) else None
    known = hasattr(head, "out_features")  # a head of another kind is built
    found = count_settings(own if known else architecture(model, classes), values, model)
    in_head = found.head // head.out_features * classes if known else found.head
    return {"trainable": found.trainable, "head": in_head, "total": found.total - found.head + in_head}
