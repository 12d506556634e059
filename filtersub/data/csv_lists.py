"""CSV lists: a column of paths, a column of labels, and the part of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..errors import FiltersubError
from .images import FileImages, Source
from .paths import fenced_images
from .problems import Problem, classes_up_to, problem

_PATHS = ("path", "image", "file", "file_name", "filename")
_LABELS = ("label", "class", "target")
_PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
_PARTS |= {"test": "test"}


def open_csv(path: Path, columns: Mapping[str, str]) -> Source:
    """A CSV file with a column ``split`` (train, val, test), or a folder of train.csv, val.csv and test.csv.

    Parameters
    ----------
    path : the file or folder; images lie below the folder, and their paths are relative to it
    columns : names of the columns "image", "label" and "split", where they are not found by their usual names

    Labels are whole numbers from 0, or names, which are numbered in alphabetical order. Without test images, or without
    validation images, a fifth of each class is held out. Raises FiltersubError for files that are no such lists.
    """
    root = path if path.is_dir() else path.parent
    tables = _tables(path, columns)
    if tables.get("train") is None or tables["train"].empty:
        raise FiltersubError(f"{path} lists no training images; its column 'split' (or train.csv) must name some")
    classes, numbers = _numbers(tables)
    n_classes = len(classes) or classes_up_to(max(numbers["train"]), path)
    parts: dict[str, FileImages] = {}
    problems: list[Problem] = []
    for part, table in tables.items():
        rows = list(zip(table["image"], table["label"], numbers[part], strict=True))
        known = [(file, number) for file, _, number in rows if number is not None]
        unknown = [f"{file} {label}" for file, label, number in rows if number is None]
        problems += problem("label", part, unknown, "labels that no training image has")
        parts[part], found = fenced_images(root, known, n_classes, part)
        problems += found
    search = parts["train"] if "validation" in parts else None
    return Source(n_classes, search=search, classes=classes, problems=tuple(problems), **parts)


def _tables(path: Path, columns: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """image and label of each part there is."""
    if path.is_dir():
        files = {part: path / f"{name}.csv" for name, part in _PARTS.items() if (path / f"{name}.csv").is_file()}
        return {part: _table(file, columns) for part, file in files.items()}
    table = _table(path, columns)
    if "split" not in table:
        return {"train": table}
    unknown = sorted(set(table["split"].str.lower()) - set(_PARTS))
    if unknown:
        raise FiltersubError(f"{path} has the split {unknown[0]!r}; known: {', '.join(_PARTS)}")
    named = table["split"].str.lower().map(_PARTS)
    return {part: table[named == part] for part in ("train", "validation", "test") if (named == part).any()}


def _table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FiltersubError(f"cannot read {path} as CSV: {' '.join(str(error).split())}") from None
    usual = {"image": _PATHS, "label": _LABELS, "split": ("split", "part")}
    found = {}
    for what, names in usual.items():
        asked = columns.get(what)
        named = asked if asked is not None else next((name for name in names if name in table), None)
        if named in table:
            found[what] = table[named].str.strip()
        elif asked is not None or what != "split":
            raise FiltersubError(
                f"{path} has no column {asked or what!r}; it has {', '.join(table.columns)}. "
                f"Name it, as in csv:{path.name}?{what}=COLUMN"
            )
    return pd.DataFrame(found)


def _numbers(tables: Mapping[str, pd.DataFrame]) -> tuple[tuple[str, ...], dict[str, list[int | None]]]:
    """(names of the classes, labels as numbers by part); None for a label that no training image has."""
    train = tables["train"]["label"]
    if train.str.fullmatch(r"-?\d+").all():
        whole = {part: table["label"].where(table["label"].str.fullmatch(r"-?\d+")) for part, table in tables.items()}
        return (), {part: [None if v != v else int(v) for v in values] for part, values in whole.items()}
    classes = tuple(sorted(set(train)))
    number = {name: label for label, name in enumerate(classes)}
    return classes, {part: [number.get(name) for name in table["label"]] for part, table in tables.items()}
