"""Training recipes by name: YAML files in which every value says where it comes from."""

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import FiltersubError, check_name, meant
from ..experiment.settings import TuneSettings
from ..files import as_path
from ..methods.options import check_method
from ..schema import check_settings
from ..setting_fields import TuneFields
from ..yaml_file import load_yaml, yaml_text

_FOLDER = Path(__file__).parent
_KEYS = ("title", "paper", "settings", "needs", "methods")


@dataclass(frozen=True)
class Recipe:
    """Settings of a tuning run with the source of each.

    Attributes
    ----------
    name, title : its name, and what it trains on what
    paper : where the recipe is printed
    settings : values by name, a part of TuneSettings' fields
    sources : by the same names, where the value is printed, or why it was taken
    needs : settings that the recipe leaves to whoever uses it, such as the task of VTAB-1k
    methods : by method, the values that are others for it: {"full": {"learning_rate": 5e-5}}
    method_sources : by method and setting, where those come from
    """

    name: str
    title: str
    paper: str
    settings: dict[str, Any]
    sources: dict[str, str]
    needs: tuple[str, ...] = ()
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    method_sources: dict[str, dict[str, str]] = field(default_factory=dict)

    def settings_with(self, **overrides: Any) -> TuneSettings:
        """The settings, ``overrides`` first, then the method's own. Raises FiltersubError where a need is not given."""
        for name in overrides:
            _check_name(name, "settings")
        missing = [name for name in self.needs if name not in overrides]
        if missing:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            raise FiltersubError(f"the recipe {self.name!r} needs {options}")
        method = overrides.get("method", self.settings.get("method", TuneSettings.method))
        return TuneSettings(**{**self.settings, **self.methods.get(method, {}), **overrides})

    def sources_for(self, method: str) -> dict[str, str]:
        """The source of each value that a run of this method gets from the recipe."""
        return self.sources | self.method_sources.get(method, {})

    def table(self) -> pd.DataFrame:
        """One row a setting: method ("" for all), setting, value, source."""
        parts = {"": (self.settings, self.sources)}
        parts |= {name: (values, self.method_sources[name]) for name, values in self.methods.items()}
        rows = []
        for method, (values, sources) in parts.items():
            rows += [(method, name, value, sources[name]) for name, value in values.items()]
        return pd.DataFrame(rows, columns=["method", "setting", "value", "source"])


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """A recipe by name, or from a ``.yaml`` file of one's own.

    Raises FiltersubError for unknown names, and for files in which a setting is unknown, of another type than the
    setting's, or without its source.
    """
    path = as_path(name) if str(name).endswith((".yaml", ".yml")) else _FOLDER / f"{name}.yaml"
    if path.parent == _FOLDER and path.stem not in recipe_names():
        check_name("recipe", str(name), [*recipe_names(), "or a YAML file"])
    return _parsed(load_yaml(yaml_text(path, str(path)), str(path)), path)


def _parsed(found: Any, path: Path) -> Recipe:
    if not isinstance(found, Mapping) or set(found) - set(_KEYS) or not isinstance(found.get("settings"), Mapping):
        raise FiltersubError(f"{path} must hold {', '.join(_KEYS)}, the settings by name")
    settings, sources = _values(found["settings"], path)
    methods = found.get("methods") or {}
    if not isinstance(methods, Mapping) or not all(isinstance(part, Mapping) for part in methods.values()):
        raise FiltersubError(f"{path}: methods must hold settings by name for each method")
    for method in methods:
        check_method(method)
    parts = {method: _values(part, path) for method, part in methods.items()}
    about = {name: found[name] for name in ("title", "paper", "needs") if name in found}
    check_settings(about, Recipe, str(path), needs=list[str] | None)
    needs = tuple(about.get("needs") or ())
    for name in needs:
        _check_name(name, str(path))
    own = {method: values for method, (values, _) in parts.items()}
    own_sources = {method: found for method, (_, found) in parts.items()}
    title, paper = about.get("title", ""), about.get("paper", "")
    recipe = Recipe(path.stem, title, paper, settings, sources, needs, own, own_sources)
    if not needs:  # validates the values
        recipe.settings_with()
        for method in methods:
            recipe.settings_with(method=method)
    return recipe


def _values(entries: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(values, sources) by the names of their settings, each value of its setting's type."""
    values, sources, hints = {}, {}, typing.get_type_hints(TuneFields)
    for name, entry in entries.items():
        _check_name(name, str(path))
        if not isinstance(entry, Mapping) or set(entry) != {"value", "source"} or not str(entry["source"]).strip():
            raise FiltersubError(f"{path}: {name} must be {{value: ..., source: ...}}, got {entry!r}")
        value = entry["value"]
        check_settings({name: value}, TuneFields, str(path))
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if isinstance(value, list):
            value = tuple(value)
        elif type(value) is int and float in kinds and int not in kinds:
            value = float(value)
        values[name], sources[name] = value, str(entry["source"])
    return values, sources


def _check_name(name: str, source: str) -> None:
    known = TuneFields.__dataclass_fields__
    if name not in known:
        raise FiltersubError(f"unknown setting {name!r} in {source}{meant(name, known)}")
