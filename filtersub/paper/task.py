"""Whether a run's task is the paper's: the same model, data set and recipe. Only then printed numbers stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..errors import FiltersubError
from ..experiment.settings import settings_from
from ..methods.options import MEANT_FOR
from ..recipes import Recipe, load_recipe
from .printed import printed_accuracy

#: recipe of each table and figure; Table 2 has one for each data set
RECIPES = {"figure4": "validation-experiment", "table1": "vtab1k"}
_TABLE_2 = {"cifar100": "cifar100", "imagenet1k": "imagenet1k"}
#: what is compared in a table, so need not be the recipe's
_METHOD = {"method", *MEANT_FOR} - {"layers", "train_coefficients"}
_RATES = {"learning_rate", "head_learning_rate", "rates"}  # the task's only where the paper prints them
_WITHOUT_EFFECT = {"seed", "workers", "accumulation", "compile", "mixed_precision"}  # on what is learned, but rounding


def differing_settings(parameters: Mapping[str, Any], where: str) -> list[str]:
    """Settings of a run that are not those of the paper's recipe, ``name value (the recipe's)``; none: the same task.

    Parameters
    ----------
    parameters : of a tuning record
    where : "figure4", "table1" or "table2"

    A model whose weights were read from a named file, random weights, and a part of the training images are other tasks
    too. Raises FiltersubError for another ``where``.
    """
    run = settings_from(dict(parameters), "the record").parameters
    recipe = _recipe(where, str(run["data"]))
    if recipe is None:
        return [f"data {run['data']}"]
    needed = {name: run[name] for name in recipe.needs}
    wanted = recipe.settings_with(**needed, method=run["method"]).parameters
    sources = recipe.sources_for(run["method"])
    printed_rates = {name for name in _RATES if sources.get(name, "").startswith("printed")}
    ignored = _METHOD | _WITHOUT_EFFECT | (_RATES - printed_rates)
    return [
        f"{name} {run[name]} ({value})" for name, value in wanted.items() if name not in ignored and run[name] != value
    ]


def same_task(parameters: Mapping[str, Any], where: str) -> bool:
    """Whether the paper's numbers in ``where`` may stand beside this run's."""
    return not differing_settings(parameters, where)


def printed_method(parameters: Mapping[str, Any]) -> str | None:
    """The row of Tables 1 and 2 that a run belongs to; None for a method that the paper does not print.

    Atoms are those of setting 3, whatever m and k_c, which the tables do not print; expanded ones have no row.
    """
    method = parameters.get("method")
    if method == "filter-subspace":
        other = parameters.get("expansion") or parameters.get("train_coefficients") or not parameters.get("block")
        return None if other else method
    return method if method in ("full", "linear", "lora") else None


def _recipe(where: str, data: str) -> Recipe | None:
    """The recipe for a data set of ``where``, None where the paper has no such data set there."""
    if where == "figure4":
        return _loaded(RECIPES[where])
    if where not in ("table1", "table2"):
        raise FiltersubError(f"unknown part of the paper {where!r}; known: figure4, table1, table2")
    if data not in set(printed_accuracy(where)["data"]):
        return None
    return _loaded(RECIPES.get(where, _TABLE_2.get(data, "")))


_loaded = cache(load_recipe)
