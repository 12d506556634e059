"""Settings of a run by a reading: the reading's recipe, the run's sizes, the reading's rules, and what a user gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import FiltersubError
from ..experiment.settings import TuneSettings
from ..methods.options import MEANT_FOR
from ..recipes import load_recipe
from .counts import count_run
from .readings import Part, check_reading, find_part, find_run, fits, locate, method_settings, run_of

#: settings that say how large a run is; a reading leaves them to the user
SIZES = ("method", "atoms", "expansion", "block", "rank")
_OF_METHODS = {"method", *MEANT_FOR}
own_recipe = cache(load_recipe)  # of a reading: a file of the package


@dataclass(frozen=True)
class Chosen:
    """A run of the paper and the reading of it."""

    part: Part
    run: str
    reading: str

    @property
    def name(self) -> str:
        return f"{self.part.name}/{self.run}"


def choose(
    reading: str | None,
    run: str | None,
    *,
    model: str | None = None,
    data: str | None = None,
    recipe: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Chosen:
    """What a user means by ``--reading`` and ``--paper``.

    Parameters
    ----------
    reading : "text" or "authors"; None is "text"
    run : ``PART/RUN``, or a part alone; None finds the part by model, data set and recipe
    given : method and sizes, which say the run where ``run`` does not

    Raises FiltersubError for unknown names, where no part or several fit, and for a method that the part does not have.
    """
    reading = check_reading(reading or "text")
    if run is not None and "/" in run:
        return Chosen(*find_run(run), reading)
    if run is None and (model, data, recipe) == (None, None, None):
        raise FiltersubError(
            f"the reading {reading!r} is of a run of the paper: name it, such as --paper figure4/setting-2"
        )
    part = find_part(run) if run is not None else locate(model, data, recipe)
    values = {"method": "filter-subspace", **(given or {})}
    found = run_of(part, values)
    if found is None:
        raise FiltersubError(f"{part.name} has no run of this method; its runs: {', '.join(part.runs)}")
    return Chosen(part, found, reading)


def check_free(chosen: Chosen, given: Mapping[str, Any]) -> None:
    """Raises FiltersubError where a user gives what the reading itself states, which would be another reading."""
    for name, setting in chosen.part.rule(chosen.run, chosen.reading).items():
        if name in given and name not in SIZES and not setting.allows(given[name]):
            option = f"--{name.replace('_', '-')}"
            raise FiltersubError(
                f"{option} {given[name]} is not the reading {chosen.reading!r} of {chosen.name}, which has "
                f"{setting.value} ({setting.source}); leave {option} out, or leave the reading out"
            )


def check_fits(chosen: Chosen, model: str, given: Mapping[str, Any]) -> None:
    """Raises FiltersubError where the reading names layers that another model than the paper's does not have."""
    if not fits(chosen.part, model):
        sizes = {name: value for name, value in given.items() if name in SIZES}
        count_run(chosen.part, chosen.run, chosen.reading, model=model, **sizes)


def tune_settings(chosen: Chosen, given: Mapping[str, Any], recipe: str | None = None) -> TuneSettings:
    """Whole settings of a tuning run.

    Parameters
    ----------
    given : by the names of TuneSettings; sizes, the data set, the model, and all that the reading leaves open
    recipe : another one than the reading's

    Raises FiltersubError for Table 3, which is no tuning of a classifier, where the part has several data sets and none
    is given, and for what check_free refuses.
    """
    check_free(chosen, given)
    settings = TuneSettings(**settings_of(chosen, given, recipe))
    check_fits(chosen, settings.model, given)
    return settings


def settings_of(chosen: Chosen, given: Mapping[str, Any], recipe: str | None = None) -> dict[str, Any]:
    """The settings of tune_settings by name, unchecked."""
    part, recipes = chosen.part, chosen.part.readings[chosen.reading].recipe
    if not recipes:
        raise FiltersubError(f"{part.title} is run by `filtersub generate-tune` or `filtersub ablate {part.preset}`")
    data = str(given.get("data", part.data[0]))
    if "data" not in given and len(part.data) > 1:
        raise FiltersubError(f"{part.title}: say which data set, such as --data {part.data[0]}")
    loaded = load_recipe(recipe) if recipe else own_recipe(recipes.get(data, recipes[part.data[0]]))
    method = method_settings(part, chosen.run, chosen.reading)
    trained = {**loaded.settings, **loaded.methods.get(str(given.get("method", method["method"])), {})}
    training = {name: value for name, value in trained.items() if name not in _OF_METHODS}
    return {**training, "data": data, **method, **given}
