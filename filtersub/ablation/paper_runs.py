"""Stages that run a figure or a table of the paper: their runs come from one of its readings, not from the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import FiltersubError
from ..paper import Part, find_part
from .kept_results import kept_results
from .spec_yaml import Place

KEY = "paper"


def with_paper_runs(content: dict[str, Any], reading: str, place: Place) -> dict[str, Any]:
    """A stage's mapping in which ``paper`` has become plain parameters and runs.

    ``paper``, of schemas.PaperSchema, holds ``part``, such as figure4; ``runs``, names of that part's runs (default
    all); ``sizes``, "all" of the figure or "one", those that the text speaks of; and ``as``, the notebook's parameter
    that takes the runs as one list. The stage's own ``parameters``, ``grid`` and ``runs`` win over the reading's.

    Raises FiltersubError, with the line, for unknown parts and runs.
    """
    asked, place = content[KEY], place.at(KEY)
    try:
        part = find_part(asked["part"])
        if not part.readings[reading].recipe:  # a notebook that takes the reading itself
            own = {name: value for name, value in content.items() if name != KEY}
            return {**own, "parameters": {"reading": reading, **own.get("parameters", {})}}
        unknown = [name for name in asked.get("runs", []) if name not in part.runs]
        if unknown:
            raise FiltersubError(f"{part.name} has no run {unknown[0]!r}; known: {', '.join(part.runs)}")
        fixed = {**content.get("parameters", {}), **content.get("grid", {})}
        with kept_results() as kept:
            found = kept.of("runs", [asked, reading, fixed], lambda: list(_runs(part, asked, reading, fixed)))
    except FiltersubError as error:
        raise place.error(str(error)) from None
    rest = {name: value for name, value in content.items() if name != KEY}
    extras = content.get("runs", [{}])
    if "as" in asked:
        whole = [{**run, **extra} for extra in extras for run in found]
        rest.pop("runs", None)
        return {**rest, "parameters": {**rest.get("parameters", {}), asked["as"]: whole}}
    common, own = _apart(found)
    combined = [{**run, **extra} for extra in extras for run in own]
    names = {name for run in combined for name in run}
    parameters = {name: value for name, value in {**common, **rest.get("parameters", {})}.items() if name not in names}
    return {**rest, "parameters": parameters, "runs": combined}


def _runs(part: Part, asked: Mapping[str, Any], reading: str, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Settings of every run, data set by data set, but for what the stage fixes itself."""
    from ..paper import choose, settings_of

    own = [str(fixed["data"])] if isinstance(fixed.get("data"), str) else list(part.data)
    for data in own if "data" not in fixed or isinstance(fixed["data"], str) else own[:1]:
        for name in asked.get("runs", part.runs):
            chosen = choose(reading, f"{part.name}/{name}")
            for point in part.points(name) if asked.get("sizes", "all") == "all" else [{}]:
                settings = settings_of(chosen, {**point, "data": data})
                yield {key: value for key, value in settings.items() if key not in fixed}


def _apart(runs: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what all runs have alike, what sets each apart; its method always)."""
    first = runs[0]
    common = {
        name: value
        for name, value in first.items()
        if name != "method" and all(name in run and run[name] == value for run in runs)
    }
    return common, [{name: value for name, value in run.items() if name not in common} for run in runs]
