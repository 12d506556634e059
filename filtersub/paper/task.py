"""Whether a run is the paper's by one of its readings: model, data, recipe, rules and trained parameters.

Only then printed numbers stand beside it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from ..errors import check_name
from ..experiment.settings import WITHOUT_EFFECT, TuneSettings, settings_from
from ..methods.options import MEANT_FOR
from .chosen import own_recipe
from .counts import count_run, count_settings
from .readings import READINGS, Part, parts, run_of

_PARTS = ("figure4", "table1", "table2")
_METHOD = {"method", *MEANT_FOR} - {"train_coefficients"}
_RATES = {"learning_rate", "head_learning_rate", "rates"}  # the task's only where the paper prints them
_WITHOUT_EFFECT = WITHOUT_EFFECT | {"seed", "accumulation", "compile", "mixed_precision"}  # on more than rounding
_SIZES = ("atoms", "expansion", "block")
_ROWS = {"atoms": "filter-subspace"}  # run -> row of Tables 1 and 2, where they are called differently


def differing_settings(parameters: Mapping[str, Any], where: str, trained: int | None = None) -> list[str]:
    """What sets a run apart from the nearest reading of the paper, ``name value (the reading's)``; none: it is that.

    Parameters
    ----------
    parameters : of a tuning record
    where : "figure4", "table1" or "table2"
    trained : trained parameters without the head that the record counted; None counts them from the parameters

    A model whose weights were read from a named file, random weights, and a part of the training images are other tasks
    too. Raises FiltersubError for another ``where``.
    """
    found = [differences(parameters, where, reading, trained) for reading in READINGS]
    return min(found, key=len)


def differences(parameters: Mapping[str, Any], where: str, reading: str, trained: int | None = None) -> list[str]:
    """What sets a run apart from one reading, as in differing_settings."""
    part = _part(where)
    run = settings_from(dict(parameters), "the record")
    if run.data not in part.data:
        return [f"data {run.data} ({part.data[0] if len(part.data) == 1 else 'not in ' + part.title.split(',')[0]})"]
    task = list(_of_task(run, part, reading))
    method = list(_of_method(run, part, reading))
    if task or method:  # counts of another model say nothing
        return task + method
    return list(_of_count(run, part, reading, trained))


def printed_method(parameters: Mapping[str, Any]) -> str | None:
    """The row of Tables 1 and 2 that a run belongs to; None for a method that the paper does not print.

    Atoms are those of setting 3, whatever m and k_c, which the tables do not print; expanded ones have no row.
    """
    run = run_of(parts()["table1"], parameters)
    return None if run is None else _ROWS.get(run, run)


def _of_task(run: TuneSettings, part: Part, reading: str) -> Iterator[str]:
    """Settings that are not the recipe's."""
    recipe = own_recipe(part.readings[reading].recipe[run.data])
    own = run.parameters
    wanted = recipe.settings_with(**{name: own[name] for name in recipe.needs}, method=run.method).parameters
    sources = recipe.sources_for(run.method)
    printed_rates = {name for name in _RATES if sources.get(name, "").startswith("printed")}
    ignored = _METHOD | _WITHOUT_EFFECT | (_RATES - printed_rates)
    for name, value in wanted.items():
        if name not in ignored and own[name] != value:
            yield f"{name} {own[name]} ({value})"


def _of_method(run: TuneSettings, part: Part, reading: str) -> Iterator[str]:
    """Rules of the reading that the run does not keep, and sizes that the part does not have."""
    name = run_of(part, run.parameters)
    if name is None:
        return
    own = run.parameters
    rules = part.rule(name, reading)
    for field, setting in rules.items():
        if field in own and field not in (*_SIZES, *_RATES) and not setting.allows(own[field]):
            yield f"{field} {own[field]} ({setting.value})"
    for field in _SIZES if name in part.grids else ():
        usual = rules[field].value if field in rules else part.runs[name].get(field)
        allowed = [point.get(field, usual) for point in part.points(name)]
        if own[field] not in allowed:
            yield f"{field} {own[field]} ({', '.join(dict.fromkeys(map(str, allowed)))})"


def _of_count(run: TuneSettings, part: Part, reading: str, trained: int | None) -> Iterator[str]:
    """Trained parameters, head apart, that are not those of the reading."""
    own, name = run.parameters, run_of(part, run.parameters)
    if name is None:
        return
    sizes = {field: own[field] for field in _SIZES if name in part.grids and own[field] is not None}
    wanted = _wanted(part.name, name, reading, tuple(sizes.items()))
    if trained is None:
        trained = _trained(part.model, json.dumps({**own, "seed": 0, "data": ""}, sort_keys=True))
    if trained != wanted:
        yield f"{trained:,} trained parameters ({wanted:,})"


@cache
def _wanted(part: str, run: str, reading: str, sizes: tuple[tuple[str, Any], ...]) -> int:
    return count_run(parts()[part], run, reading, **dict(sizes)).trainable


@lru_cache(maxsize=64)
def _trained(model: str, parameters: str) -> int:
    """Trained parameters of a run's settings, given as JSON; the head is not among them, so any will do."""
    from ..parameters import architecture  # here: who compares settings needs no network

    return count_settings(architecture(model, None), json.loads(parameters)).trainable


def _part(where: str) -> Part:
    return parts()[check_name("part of the paper", where, _PARTS)]
