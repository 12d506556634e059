"""The two readings of the paper, ``text`` and ``authors``: the settings of every run of its figures and tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import FiltersubError, check_name
from ..yaml_file import packaged_yaml

READINGS = ("text", "authors")
_FILE = Path(__file__).parent / "readings.yaml"
_FREE = ("not printed", "not known")


@dataclass(frozen=True)
class Setting:
    """A value of a reading, where it comes from, and other values that the source allows."""

    value: Any
    source: str
    also: Sequence[Any] = ()

    def allows(self, value: Any) -> bool:
        return self.is_free or value == self.value or value in self.also

    @property
    def is_free(self) -> bool:
        """Whether the source leaves the value open, so that a run with another one still counts as the reading's."""
        return self.source.startswith(_FREE)


@dataclass(frozen=True)
class PartReading:
    """One reading of a part."""

    recipe: dict[str, str]  # name of the training recipe by data set; empty for Table 3
    rules: dict[str, dict[str, Setting]]  # by run and setting; what a run does not state is its size or the recipe's


@dataclass(frozen=True)
class Part:
    """A figure or a table of the paper."""

    name: str  # figure4, table1, table2 or table3
    title: str
    model: str  # on which it is counted and run
    architectures: str  # a regular expression of the models that have its layer names
    data: tuple[str, ...]
    preset: str  # the ablation that runs it
    runs: dict[str, dict[str, Any]]  # name of a run -> its sizes
    grids: dict[str, dict[str, list[Any]]]  # name of a run -> the other sizes that the figure shows
    readings: dict[str, PartReading]  # by name, see READINGS

    def points(self, run: str) -> Iterator[dict[str, Any]]:
        """The sizes that set the points of the run's grid apart; one empty mapping where it has no grid."""
        grid = self.grids.get(run, {})
        for values in product(*grid.values()):
            yield dict(zip(grid, values, strict=True))

    def rule(self, run: str, reading: str) -> dict[str, Setting]:
        return self.readings[reading].rules.get(run, {})


@dataclass(frozen=True)
class Readings:
    """The file as a whole: title and notes of each reading, and the parts by name."""

    titles: dict[str, str]
    notes: dict[str, tuple[str, ...]]
    parts: dict[str, Part]


@cache
def all_readings() -> Readings:
    """The readings as the package has them (readings.yaml)."""
    content = packaged_yaml(_FILE)
    named = content["readings"]
    return Readings(
        {name: entry["title"] for name, entry in named.items()},
        {name: tuple(entry["notes"]) for name, entry in named.items()},
        {name: _part(name, entry) for name, entry in content["parts"].items()},
    )


def parts() -> dict[str, Part]:
    """The figures and tables that have runs, by name."""
    return all_readings().parts


def check_reading(name: str) -> str:
    """The name, or a FiltersubError that lists the known ones."""
    return check_name("reading", name, READINGS)


def find_part(name: str) -> Part:
    """The part of this name, or a FiltersubError that lists the known ones."""
    return parts()[check_name("part of the paper", name, parts())]


def find_run(name: str) -> tuple[Part, str]:
    """(part, run) of ``PART/RUN``. Raises FiltersubError that lists what is known."""
    part_name, _, run = name.partition("/")
    part = find_part(part_name)
    check_name(f"run of the paper's {part.name}", name, [f"{part.name}/{each}" for each in part.runs])
    return part, run


def method_settings(part: Part, run: str, reading: str, **sizes: Any) -> dict[str, Any]:
    """Method settings of a run by a reading: its sizes, then ``sizes``, then what the reading says of the rest.

    A size that is given wins over the run's; the reading's rules win over both, but for sizes that its rule has too.
    """
    rules = {name: setting.value for name, setting in part.rule(run, check_reading(reading)).items()}
    return {**part.runs[run], **rules, **sizes}


def run_of(part: Part, values: Mapping[str, Any]) -> str | None:
    """Name of the run that tuning settings belong to, by method and by whether atoms are expanded or in blocks.

    LoRA in another form than the reading's is the run's too: its count tells it apart. None for other methods, and for
    atoms whose coefficients are trained.
    """
    method = str(values.get("method"))
    if method.startswith("lora"):
        return "lora" if "lora" in part.runs else None
    if method != "filter-subspace":
        return method if method in part.runs else None
    if values.get("train_coefficients"):
        return None
    expanded, blocked = bool(values.get("expansion")), values.get("block") not in (None, 1)
    if "atoms" in part.runs:
        return "atoms" if blocked and not expanded else None
    return {(False, False): "setting-1", (True, False): "setting-2", (False, True): "setting-3"}.get(
        (expanded, blocked), "setting-4"
    )


def locate(model: str | None, data: str | None = None, recipe: str | None = None) -> Part:
    """The one part that a model, a data set and a recipe belong to, of those that are given.

    Raises FiltersubError where none or several fit.
    """
    asked = {"model": model, "data": data, "recipe": recipe}
    found = [
        part
        for part in parts().values()
        if (model is None or fits(part, model))
        and (data is None or data in part.data)
        and (recipe is None or any(recipe in own.recipe.values() for own in part.readings.values()))
    ]
    if len(found) == 1:
        return found[0]
    words = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    if not found:
        raise FiltersubError(f"no reading of the paper is of {words}; name the part that is meant, such as figure4")
    names = " or ".join(part.name for part in found)
    raise FiltersubError(f"{words} is in several parts of the paper, each with a reading of its own; say {names}")


def fits(part: Part, model: str) -> bool:
    """Whether a model, by its name, is of the architecture that the part is of."""
    return bool(re.search(part.architectures, model.removeprefix("timm:").removeprefix("torchvision:")))


def reading_table(part: Part, reading: str) -> pd.DataFrame:
    """One row a run and setting that the reading states: run, setting, value, source; the recipe is a row too."""
    own = part.readings[check_reading(reading)]
    rows = [
        {"run": run, "setting": name, "value": setting.value, "source": setting.source}
        for run, rules in own.rules.items()
        for name, setting in rules.items()
    ]
    rows += [
        {"run": "all", "setting": f"recipe of {data}", "value": name, "source": f"filtersub/recipes/{name}.yaml"}
        for data, name in own.recipe.items()
    ]
    return pd.DataFrame(rows, columns=["run", "setting", "value", "source"])


def _part(name: str, content: Mapping[str, Any]) -> Part:
    data = tuple(content["data"])
    readings = {reading: _reading(entry, data) for reading, entry in content["readings"].items()}
    return Part(**{"grids": {}, **content, "name": name, "data": data, "readings": readings})


def _reading(content: Mapping[str, Any], data: tuple[str, ...]) -> PartReading:
    recipe = content["recipe"]
    by_data = dict.fromkeys(data, recipe) if isinstance(recipe, str) else dict(recipe or {})
    runs = {run: settings for run, settings in content.items() if run != "recipe"}
    rules = {run: {name: Setting(**entry) for name, entry in settings.items()} for run, settings in runs.items()}
    return PartReading(by_data, rules)
