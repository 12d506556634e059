"""Settings of a decomposition as text: YAML files, read and written, overrides and sizes of the command line."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from .decomposition import DecompositionConfig
from .decomposition.file import read_header
from .decomposition.folder import RESULT_FILE
from .decomposition.recipe import check_overrides
from .errors import FiltersubError, check_name
from .files import as_path, plain_json, write_text
from .former_names import RECIPE_KEYS, by_name_of_today
from .schema import check_settings
from .settings import check_kind
from .yaml_file import ScientificLoader, load_yaml, yaml_text

#: beside the fields of DecompositionConfig
_OTHER = {
    "overrides": dict[str, dict[str, Any]] | None,
    "shared_dictionary": bool | str | list[str] | None,
    "layers": str | None,
    "max_error": float | None,
    "max_error_per": str,
}
RECIPE_FILE = "recipe.yaml"
_ALWAYS_SAID = ("atoms", "solver", "l1_penalty")


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML file of settings, read safely: fields of DecompositionConfig, ``overrides`` (by pattern),
    ``shared_dictionary`` (true or patterns), ``layers``, ``max_error``, ``max_error_per``. Names of
    before are taken, too.

    Raises FiltersubError when the file is missing or no mapping, and on names that it does not know.
    """
    found = load_yaml(yaml_text(path, str(path)), str(path), ScientificLoader)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise FiltersubError(f"{path} must map settings to values, such as 'atoms: 9'")
    found = by_name_of_today(found, str(path), RECIPE_KEYS)
    known = (*(field.name for field in fields(DecompositionConfig)), *_OTHER)
    for name in found:
        check_name(f"setting in {path}:", str(name), known)
    check_settings(found, DecompositionConfig, str(path), **_OTHER)
    if found.get("overrides") is not None:
        found["overrides"] = check_overrides(found["overrides"], str(path))
        for pattern, settings in found["overrides"].items():
            check_settings(settings, DecompositionConfig, f"{path}: the override of {pattern!r}")
    return found


def write_recipe(
    path: str | os.PathLike[str],
    recipe: DecompositionConfig,
    *,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    layers: str | None = None,
    shared: Any = False,
) -> Path:
    """A YAML file that read_recipe and read_for_tuning read, written whole or not at all."""
    return write_text(path, recipe_text(recipe, overrides=overrides, layers=layers, shared=shared))


def recipe_text(
    recipe: DecompositionConfig,
    *,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    layers: str | None = None,
    shared: Any = False,
) -> str:
    """The YAML that write_recipe writes."""
    check_kind("recipe", recipe, DecompositionConfig)
    settings: dict[str, Any] = asdict(recipe)
    if layers is not None:
        settings["layers"] = layers
    if shared:
        settings["shared_dictionary"] = shared
    if overrides:
        settings["overrides"] = overrides
    return yaml.safe_dump(plain_json(settings), sort_keys=False, allow_unicode=True)


def layer_pattern(layer: str) -> str:
    r"""The regular expression that matches the layer of this name alone.

    >>> print(layer_pattern("layer1.0.conv1"))
    ^layer1\.0\.conv1$
    """
    return f"^{re.escape(layer)}$"


def recipe_command(model: str | Sequence[str], recipe: DecompositionConfig, *, layer: str) -> str:
    """The command that decomposes one layer by the recipe: settings that differ from the defaults, and m, solver, l.

    ``model`` is what the command line calls it, options of its own after it (``["resnet18", "--no-pretrained"]``).

    >>> recipe_command("resnet18", DecompositionConfig(atoms=6, limit_atoms=False), layer="conv1")
    "filtersub decompose resnet18 --layers '^conv1$' --atoms 6 --solver lasso --l1-penalty 0.001 --any-atoms"
    """
    named = [model] if isinstance(model, str) else [*model]
    options = ["--layers", layer_pattern(layer)]
    for field in fields(DecompositionConfig):
        value = getattr(recipe, field.name)
        if value == field.default and field.name not in _ALWAYS_SAID:
            continue
        option = "--any-atoms" if field.name == "limit_atoms" else f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            options.append(option)
        else:
            options += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(["filtersub", "decompose", *named, *options])


def read_for_tuning(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Fields of TuneSettings out of a decomposition's YAML file, its folder, or its ``.safetensors`` file.

    Raises FiltersubError where there is none, where layers share dictionaries, and where m is still to be chosen.
    """
    place = as_path(path)
    if place.is_dir():
        there = [place / name for name in (RECIPE_FILE, RESULT_FILE) if (place / name).is_file()]
        if not there:
            raise FiltersubError(f"{place} holds no decomposition (neither {RECIPE_FILE} nor {RESULT_FILE})")
        place = there[0]
    if place.suffix == ".safetensors":
        header = read_header(place)
        names = "|".join(re.escape(name) for name in header["layers"])
        settings = {**header["recipe"], "layers": f"^({names})$", "shared_dictionary": header.get("shared", False)}
        settings["overrides"] = header["overrides"] or None
    else:
        settings = read_recipe(place)
    if settings.pop("shared_dictionary", False):
        words = "share dictionaries; tuning gives each layer its own: leave shared_dictionary out"
        raise FiltersubError(f"the layers of {path} {words}")
    if settings.get("max_error") is not None:
        fix = f"run `filtersub decompose --config {place} --out FOLDER` and name that folder"
        raise FiltersubError(f"{path} leaves m to be chosen by max_error; {fix}")
    settings.pop("max_error_per", None)
    return settings


def read_override(text: str) -> tuple[str, dict[str, Any]]:
    """``PATTERN:setting=value,setting=value``; the values are YAML, and the pattern may hold colons itself.

    >>> read_override("stage4:atoms=12,solver=pca")
    ('stage4', {'atoms': 12, 'solver': 'pca'})
    >>> read_override("stem:l1_penalty=5e-3,block=[2,4]")
    ('stem', {'l1_penalty': 0.005, 'block': [2, 4]})
    """
    pattern, colon, rest = text.rpartition(":")
    settings = {}
    for part in re.split(r",(?![^\[(]*[\])])", rest):  # at commas that are in no brackets: atoms=12,block=[2,4]
        name, equals, value = part.partition("=")
        if not colon or not pattern or not equals:
            raise FiltersubError(f"an override is PATTERN:setting=value,..., such as 'stage4:atoms=12'; got {text!r}")
        try:
            settings[name.strip()] = load_yaml(value, "the value", ScientificLoader)
        except FiltersubError:
            raise FiltersubError(f"cannot read the value {value!r} in the override {text!r}") from None
    settings = by_name_of_today(settings, f"the override {text!r}")
    check_settings(settings, DecompositionConfig, f"the override {text!r}")
    return pattern, settings


def read_overrides(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Overrides of the command line by pattern; FiltersubError where a pattern is given twice.

    >>> read_overrides(["stage4:atoms=12", "stem:block=2"])
    {'stage4': {'atoms': 12}, 'stem': {'block': 2}}
    """
    found: dict[str, dict[str, Any]] = {}
    for pattern, settings in map(read_override, texts):
        if pattern in found:
            raise FiltersubError(f"the override of {pattern!r} is given twice; give its settings once, with commas")
        found[pattern] = settings
    return found
