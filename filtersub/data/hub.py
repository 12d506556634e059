"""Data sets of the Hugging Face library, from disk alone: what ``save_to_disk`` wrote, or a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import FiltersubError
from ..image_reading import decoded_image
from .images import Source
from .paths import Fence
from .problems import classes_up_to, problem

_PARTS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class HubImages:
    """Rows of a ``datasets.Dataset`` whose image column is left encoded until an image is asked for."""

    rows: Any
    column: str
    what: str
    fence: Fence
    labels: np.ndarray
    indices: np.ndarray = field(default_factory=lambda: np.arange(0))

    def name(self, index: int) -> str:
        return f"{self.what} row {self.indices[index]}"

    def open(self, index: int) -> Image.Image:
        value = self.rows[int(self.indices[index])][self.column]
        if value is None or not (value["bytes"] or value["path"]):
            raise FiltersubError("the row holds no image")
        if value["bytes"]:
            return decoded_image(value["bytes"])
        path = value["path"]
        if not self.fence.holds(path):
            raise FiltersubError(f"the path {path!r} leads out of {self.fence.root}")
        return decoded_image(self.fence.root / path)


def open_hub(folder: Path, columns: Mapping[str, str]) -> Source:
    """The splits train, validation and test of a saved data set; others are left alone.

    Parameters
    ----------
    folder : of ``DatasetDict.save_to_disk`` or ``Dataset.save_to_disk``, or one that holds Parquet files whose names
        begin with their split (train-00000-of-00001.parquet), directly or in data/
    columns : names of "image" and "label" where the set has more than one image column, or several labels

    Raises FiltersubError when the folder is neither, or a column is not found.
    """
    parts = _splits(folder)
    if "train" not in parts:
        raise FiltersubError(f"{folder} has no split 'train'; it has {', '.join(parts) or 'none'}")
    image, label = _columns(parts["train"], columns, folder)
    classes, number = _classes(parts["train"], label)
    fence, found, problems = Fence(folder), {}, []
    n_classes = len(classes) or classes_up_to(max((number(v) for v in parts["train"][label]), default=0), folder)
    for part, rows in parts.items():
        labels = np.array([number(value) for value in rows[label]], dtype=np.int64)
        usable = np.flatnonzero((labels >= 0) & (labels < n_classes))
        wrong = [f"row {row} ({rows[int(row)][label]})" for row in np.setdiff1d(np.arange(len(labels)), usable)]
        problems += problem("label", part, wrong, f"labels not in 0..{n_classes - 1}")
        found[part] = HubImages(_encoded(rows, image), image, part, fence, labels[usable], usable)
    search = found["train"] if "validation" in found else None
    return Source(n_classes, search=search, classes=classes, problems=tuple(problems), **found)


def _splits(folder: Path) -> dict[str, Any]:
    datasets = _library()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            files = {part: _parquet(folder, names) for part, names in _PARTS.items()}
            files = {part: paths for part, paths in files.items() if paths}
            if not files:
                raise FiltersubError(
                    f"{folder} is neither a data set saved by save_to_disk nor a folder of train*.parquet files"
                )
            loaded = datasets.load_dataset("parquet", data_files=files)
    except FiltersubError:
        raise
    except Exception as error:  # the library raises classes of many others
        raise FiltersubError(f"{folder} cannot be read as a data set: {' '.join(str(error).split())[:200]}") from None
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    known = {name: part for part, names in _PARTS.items() for name in names}
    return {known[name]: rows for name, rows in splits.items() if name in known}


def _parquet(folder: Path, names: tuple[str, ...]) -> list[str]:
    found = {path for place in (folder, folder / "data") for name in names for path in place.glob(f"{name}*.parquet")}
    fence = Fence(folder)
    return sorted(str(path) for path in found if fence.holds(path.relative_to(folder).as_posix()))


def _columns(rows: Any, columns: Mapping[str, str], folder: Path) -> tuple[str, str]:
    datasets = _library()
    images = [name for name, kind in rows.features.items() if _is_image(kind, datasets)]
    labels = [name for name, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [name for name in ("label", "labels", "class", "target") if name in rows.features]
    chosen = []
    for what, known in (("image", images), ("label", labels)):
        asked = columns.get(what)
        if asked is not None and asked not in rows.features:
            raise FiltersubError(f"{folder} has no column {asked!r}; it has {', '.join(rows.features)}")
        if asked is None and len(known) != 1:
            several = f"{len(known)} columns could be the {what} ({', '.join(known)})" if known else f"no {what} column"
            raise FiltersubError(
                f"{folder} has {several}, of {', '.join(rows.features)}; name it, as in hf:PATH?{what}=COLUMN"
            )
        chosen.append(asked or known[0])
    return chosen[0], chosen[1]


def _is_image(kind: Any, datasets: Any) -> bool:
    return isinstance(kind, datasets.Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"})


def _encoded(rows: Any, image: str) -> Any:
    """Only the image column, as bytes or a path: the library would otherwise open any path that a row names."""
    datasets = _library()
    rows = rows.select_columns([image])
    is_image = isinstance(rows.features[image], datasets.Image)
    return rows.cast_column(image, datasets.Image(decode=False)) if is_image else rows


def _classes(rows: Any, label: str) -> tuple[tuple[str, ...], Any]:
    """(names of the classes, a function from a label as stored to its number, -1 for none)."""
    kind = rows.features[label]
    if isinstance(kind, _library().ClassLabel):
        return tuple(kind.names), lambda value: -1 if value is None else int(value)
    values = {value for value in rows[label] if value is not None and str(value).strip()}  # an empty label is no class
    if all(isinstance(value, int) for value in values):
        return (), lambda value: -1 if value is None else int(value)
    names = tuple(sorted(map(str, values)))
    number = {name: position for position, name in enumerate(names)}
    return names, lambda value: number.get(str(value), -1)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise FiltersubError(
            "hf: data sets need the library datasets; install it with: pip install 'filtersub[datasets]'"
        ) from None
    return datasets
