"""What an ablation is: a YAML file of stages, checked as a whole, errors with their line (see docs/ablations.md).

Conditions on a run's parameters are a small language of mappings, nothing of which is ever evaluated as code. A pattern
is a mapping of parameters; a run matches it when every entry does. An entry is a value, a list of which any may be met,
or a mapping of comparisons: ``not``, ``above``, ``at_least``, ``below``, ``at_most``, whose right side is a value (for
``not`` also a list) or ``{parameter: NAME}``, another parameter of the same run.
"""

import itertools
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FiltersubError, check_name, near
from ..files import as_path
from ..paper import Part, check_reading, find_part
from ..schema import UNKNOWN, check_with, joined
from ..yaml_file import Place, read_yaml
from .kept_results import kept_results
from .notebook_contract import OUT_DIR, RECORDS_DIR
from .schemas import PaperSchema, SpecSchema, StageSchema

_COMPARISONS = {"above": operator.gt, "at_least": operator.ge, "below": operator.lt, "at_most": operator.le}
COMPARISONS = ("not", *_COMPARISONS)


_PRESETS = Path(__file__).resolve().parents[1] / "presets"
_NOWHERE = Place("the ablation")


def matches(pattern: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether each entry of a checked pattern is met. A comparison with None, or of a text with a number, is not.

    >>> matches({"method": "linear", "atoms": [6, 12]}, {"method": "linear", "atoms": 12})
    True
    >>> matches({"expansion": {"above": {"parameter": "atoms"}}}, {"expansion": 6, "atoms": 9})
    False
    """
    return all(_meets(wanted, parameters[name], parameters) for name, wanted in pattern.items())


def mentioned(wanted: Any) -> tuple[list[Any], list[str]]:
    """(values, names of other parameters) in one entry, to be checked; ValueError says what is ill-formed in it."""
    if not isinstance(wanted, dict):
        return (wanted if isinstance(wanted, list) else [wanted]), []
    if not wanted:
        raise ValueError("an empty mapping compares with nothing")
    values, names = [], []
    for how, right in wanted.items():
        check_name("comparison", how, COMPARISONS)
        if isinstance(right, dict):
            if list(right) != ["parameter"] or not isinstance(right["parameter"], str):
                raise ValueError(f"{how} takes a value or {{parameter: NAME}}, got {right!r}")
            names.append(right["parameter"])
        elif how != "not" and (isinstance(right, bool) or not isinstance(right, (int, float, str))):
            raise ValueError(f"{how} takes a number or a text, got {right!r}")
        else:
            values += right if isinstance(right, list) else [right]
    return values, names


def _meets(wanted: Any, value: Any, parameters: Mapping[str, Any]) -> bool:
    if isinstance(wanted, dict):
        return all(_compares(how, value, right, parameters) for how, right in wanted.items())
    return any(_same(value, each) for each in wanted) if isinstance(wanted, list) else _same(value, wanted)


def _compares(how: str, value: Any, right: Any, parameters: Mapping[str, Any]) -> bool:
    if isinstance(right, dict):
        right = parameters[right["parameter"]]
    if how == "not":
        return not _meets(right, value, parameters)
    try:
        return _COMPARISONS[how](value, right)
    except TypeError:
        return False


def _same(value: Any, other: Any) -> bool:
    """Equal, with True and 1 held apart; a list parameter meets a list's member only as a whole."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


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
    path = as_path(source)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        if str(source) not in presets():
            raise FiltersubError(f"no ablation {str(source)!r}: neither a file nor a preset{near(source, presets())}")
        path = _PRESETS / f"{source}.yaml"
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
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def _spec(content: Any, place: Place, reading: str | None = None) -> Spec:
    found: SpecSchema = check_with(SpecSchema, content, partial(_misfit, place))
    parts = tuple(dict.fromkeys(stage.paper.part for stage in found.stages if stage.paper is not None))
    name, title = found.name, found.title
    if reading is not None:
        check_reading(reading)
        if not parts:
            none = f"the ablation {name!r} runs no part of the paper, so it has no readings; leave --reading out"
            raise FiltersubError(none)
    if reading == "authors":
        name, title = f"{name}-authors", f"{title}, by the authors' code"
    stages = tuple(_stage(stage, place.at("stages", n), reading or "text") for n, stage in enumerate(found.stages))
    return Spec(name, title, found.question, stages, place.source, parts, (reading or "text") if parts else "")


def _misfit(place: Place, where: tuple[Any, ...], said: str) -> FiltersubError:
    """What the schema found, with its line; for a key that is not known, a near one."""
    kind = PaperSchema if "paper" in where[:-1] else StageSchema if "stages" in where[:-1] else SpecSchema
    if said == UNKNOWN:
        known = [field.alias or name for name, field in kind.model_fields.items()]
        return place.at(*where).error(f"unknown key {str(where[-1])!r}{near(str(where[-1]), known)}")
    shown = where[2:] if len(where) > 2 else where  # the place names the stage
    return place.at(*where).error(f"{joined(shown) or 'it '}{said}")


def _stage(found: StageSchema, place: Place, reading: str) -> Stage:
    content = found.model_dump(exclude_unset=True, by_alias=True)
    if "paper" in content:
        content = with_paper_runs(content, reading, place)
    parameters, runs, grid = content.get("parameters", {}), content.get("runs", [{}]), content.get("grid", {})
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    spread = [({**run, **point}, origin) for origin, run in enumerate(runs) for point in points]
    for origin, run in enumerate(runs):
        if twice := set(run) & set(grid):
            raise place.at("runs", origin).error(f"{min(twice)!r} is in a run and in the grid; give it once")
    seeds = content.get("seeds")
    for name in (*parameters, *(name for run, _ in spread for name in run)):
        own = place.first(("parameters", name), ("grid", name), *((("runs", n, name)) for n in range(len(runs))))
        if seeds is not None and name == "seed":
            raise own.error("give either seeds or the parameter 'seed', not both")
        if name in (OUT_DIR, RECORDS_DIR):
            raise own.error(f"{name!r} is set by the runner and cannot be given")
    conditions = {"skip": tuple(found.skip), "only": tuple(found.only)}
    seeds, origins = None if seeds is None else tuple(seeds), tuple(origin for _, origin in spread)
    runs = tuple(run for run, _ in spread)
    return Stage(
        found.notebook, parameters, runs, seeds, found.reads_records, **conditions, origins=origins, place=place
    )


def with_paper_runs(content: dict[str, Any], reading: str, place: Place) -> dict[str, Any]:
    """A stage's mapping in which ``paper`` has become plain parameters and runs.

    ``paper``, of schemas.PaperSchema, holds ``part``, such as figure4; ``runs``, names of that part's runs (default
    all); ``sizes``, "all" of the figure or "one", those that the text speaks of; and ``as``, the notebook's parameter
    that takes the runs as one list. The stage's own ``parameters``, ``grid`` and ``runs`` win over the reading's.

    Raises FiltersubError, with the line, for unknown parts and runs.
    """
    asked, place = content["paper"], place.at("paper")
    rest = {name: value for name, value in content.items() if name != "paper"}
    try:
        part = find_part(asked["part"])
        if not part.readings[reading].recipe:  # a notebook that takes the reading itself
            return {**rest, "parameters": {"reading": reading, **rest.get("parameters", {})}}
        for name in asked.get("runs", []):
            check_name(f"run of {part.name}", name, part.runs)
        fixed = {**content.get("parameters", {}), **content.get("grid", {})}
        with kept_results() as kept:
            found = kept.result("runs", [asked, reading, fixed], lambda: list(_runs(part, asked, reading, fixed)))
    except FiltersubError as error:
        raise place.error(str(error)) from None
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
    common = dict(runs[0])
    common.pop("method", None)
    for run in runs:
        common = {name: value for name, value in common.items() if name in run and run[name] == value}
    return common, [{name: value for name, value in run.items() if name not in common} for run in runs]
