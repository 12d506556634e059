"""What an ablation is: a YAML file of stages, checked as a whole, errors with their line (see docs/ablations.md)."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from .conditions import matches
from .notebook_contract import OUT_DIR, RECORDS_DIR, near
from .spec_yaml import Place, read_yaml

_PACKAGE = Path(__file__).resolve().parents[1]
_NOWHERE = Place("the ablation")
_WORDS = {str: "text", list: "a list", dict: "a mapping", bool: "true or false"}


@dataclass(frozen=True)
class Stage:
    """Runs of one notebook: each of ``runs``, at each seed, over the stage's fixed ``parameters``.

    Attributes
    ----------
    origins : for each of ``runs``, which entry of the file's ``runs`` it was spread from by the grid
    skip, only : patterns (see conditions); a run that meets one of ``skip`` is dropped, and, where there is ``only``,
        so is a run that meets none of it. The notebook's own defaults count as parameters here.
    reads_records : marks a notebook that looks at the other runs: it comes after them all, is told where they are
        through its parameter ``records_dir``, and is made again whenever one of their records changed
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    runs: tuple[dict[str, Any], ...] = ({},)
    seeds: tuple[int, ...] | None = None
    reads_records: bool = False
    skip: tuple[dict[str, Any], ...] = ()
    only: tuple[dict[str, Any], ...] = ()
    origins: tuple[int, ...] = (0,)
    place: Place = _NOWHERE

    def keeps(self, parameters: Mapping[str, Any]) -> bool:
        """Whether the conditions let a run of these parameters (defaults included) stand."""
        if any(matches(pattern, parameters) for pattern in self.skip):
            return False
        return not self.only or any(matches(pattern, parameters) for pattern in self.only)


@dataclass(frozen=True)
class Spec:
    """An ablation: what is asked, and the stages that answer it. ``source`` is the preset's name or the file's path.

    ``parts`` are the figures and tables of the paper that its stages run, ``reading`` the reading that they run by.
    """

    name: str
    title: str
    question: str
    stages: tuple[Stage, ...]
    source: str = ""
    parts: tuple[str, ...] = ()
    reading: str = ""

    @property
    def n_runs(self) -> int:
        """Runs before conditions drop any."""
        return sum(len(stage.runs) * len(stage.seeds or (None,)) for stage in self.stages)


def load_spec(source: str | os.PathLike[str], reading: str | None = None) -> Spec:
    """Read an ablation: the name of a preset such as ``quickstart``, or the path of a YAML file.

    ``reading``, "text" or "authors", is of the stages that run a part of the paper; None is "text". By the authors'
    reading the ablation has a name of its own, so that the two do not share a folder.

    Raises FiltersubError when it cannot be read or has an unknown, missing, doubled or ill-typed key, with the line and
    a near key that is known.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = _preset(str(source))
    content, place = read_yaml(path, str(source))
    spec = _spec(content, place, reading)
    return replace(spec, stages=tuple(_with_own_notebook(stage, path.parent) for stage in spec.stages))


def parse_spec(content: Any, source: str = "the ablation") -> Spec:
    """A checked Spec from a mapping such as YAML gives; see load_spec."""
    return _spec(content, Place(source))


def _with_own_notebook(stage: Stage, folder: Path) -> Stage:
    """The path of a notebook is seen from the file that names it; one that is not there, from the working folder."""
    own = folder / stage.notebook
    if own.suffix != ".ipynb" or not own.is_file():
        return stage
    return replace(stage, notebook=str(own.resolve()))


def presets() -> list[str]:
    """Names of the ablations that come with the package."""
    folder = resources.files("filtersub") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _preset(name: str) -> Path:
    if name not in presets():
        raise FiltersubError(f"no ablation {name!r}: neither a file nor a preset{near(name, presets())}")
    return _PACKAGE / "presets" / f"{name}.yaml"


def _spec(content: Any, place: Place, reading: str | None = None) -> Spec:
    _check_keys(content, {"name": str, "title": str, "question": str, "stages": list}, place, optional=())
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", content["name"]):
        raise place.at("name").error(f"name {content['name']!r} may hold letters, digits, '.', '_' and '-' only")
    if not content["stages"]:
        raise place.at("stages").error("stages is empty, so there is nothing to run")
    name, title = content["name"], content["title"].strip()
    question = " ".join(content["question"].split())
    parts = _parts(content["stages"])
    if reading is not None:
        _check_reading(reading, name, parts)
    if reading == "authors":
        name, title = f"{name}-authors", f"{title}, by the authors' code"
    stages = tuple(_stage(stage, place.at("stages", n), reading or "text") for n, stage in enumerate(content["stages"]))
    return Spec(name, title, question, stages, place.source, parts, (reading or "text") if parts else "")


def _parts(stages: list[Any]) -> tuple[str, ...]:
    """The parts of the paper that stages name, whether they are known or not."""
    named = [
        stage["paper"].get("part")
        for stage in stages
        if isinstance(stage, dict) and isinstance(stage.get("paper"), dict)
    ]
    return tuple(dict.fromkeys(map(str, named)))


def _check_reading(reading: str, name: str, parts: tuple[str, ...]) -> None:
    from ..paper import check_reading

    check_reading(reading)
    if not parts:
        raise FiltersubError(
            f"the ablation {name!r} runs no part of the paper, so it has no readings; leave --reading out"
        )


def _stage(content: Any, place: Place, reading: str) -> Stage:
    kinds = {
        **{"notebook": str, "paper": dict, "parameters": dict, "runs": list, "grid": dict, "seeds": list},
        **{"skip": list, "only": list, "reads_records": bool},
    }
    _check_keys(content, kinds, place, optional=[name for name in kinds if name != "notebook"])
    if "paper" in content:
        from .paper_runs import with_paper_runs  # torch, for those stages alone

        content = with_paper_runs(content, reading, place)
    parameters, runs = content.get("parameters", {}), content.get("runs", [{}])
    for number, run in enumerate(runs):
        if not isinstance(run, dict):
            raise place.at("runs", number).error(f"run {number + 1} must be a mapping of parameters, got {run!r}")
    if not runs:
        raise place.at("runs").error("runs is empty; leave it out for a single run")
    points = _points(content.get("grid", {}), place.at("grid"))
    spread = [({**run, **point}, origin) for origin, run in enumerate(runs) for point in points]
    for origin, run in enumerate(runs):
        if twice := set(run) & set(content.get("grid", {})):
            raise place.at("runs", origin).error(f"{min(twice)!r} is in a run and in the grid; give it once")
    seeds = _seeds(content.get("seeds"), place)
    for name in (*parameters, *(name for run, _ in spread for name in run)):
        own = place.first(("parameters", name), ("grid", name), *((("runs", n, name)) for n in range(len(runs))))
        if not isinstance(name, str):
            raise own.error(f"the parameter {name!r} must be a name")
        if seeds is not None and name == "seed":
            raise own.error("give either seeds or the parameter 'seed', not both")
        if name in (OUT_DIR, RECORDS_DIR):
            raise own.error(f"{name!r} is set by the runner and cannot be given")
    return Stage(
        content["notebook"],
        parameters,
        tuple(run for run, _ in spread),
        seeds,
        content.get("reads_records", False),
        *(_patterns(content.get(which), place.at(which), which) for which in ("skip", "only")),
        origins=tuple(origin for _, origin in spread),
        place=place,
    )


def _points(grid: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise place.at(name).error(f"grid {name!r} must be a list of values, got {values!r}")
        for value in values:
            if sum(value == other and type(value) is type(other) for other in values) > 1:
                raise place.at(name).error(f"grid {name!r} has the value {value!r} twice")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _seeds(seeds: list[Any] | None, place: Place) -> tuple[int, ...] | None:
    if seeds is None:
        return None
    if not seeds or not all(type(seed) is int for seed in seeds):
        raise place.at("seeds").error(f"seeds must be a list of integers, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise place.at("seeds").error(f"seeds has {twice} twice")
    return tuple(seeds)


def _patterns(content: list[Any] | None, place: Place, which: str) -> tuple[dict[str, Any], ...]:
    if content is None:
        return ()
    for number, pattern in enumerate(content):
        if not isinstance(pattern, dict) or not pattern:
            raise place.at(number).error(f"{which} holds mappings of parameters, got {pattern!r}")
    if not content:
        raise place.error(f"{which} is empty; leave it out")
    return tuple(content)


def _check_keys(content: Any, kinds: Mapping[str, type], place: Place, optional: Iterable[str]) -> None:
    if not isinstance(content, dict):
        raise place.error(f"this must be a mapping with the keys {', '.join(kinds)}")
    for key, value in content.items():
        if key not in kinds:
            raise place.at(str(key)).error(f"unknown key {key!r}{near(str(key), kinds)}")
        if not isinstance(value, kinds[key]):
            raise place.at(key).error(f"{key} must be {_WORDS[kinds[key]]}, got {value!r}")
    for key in kinds:
        if key not in content and key not in optional:
            raise place.error(f"there is no {key!r}")
