"""Data sets of the Hugging Face library, from disk alone: what ``save_to_disk`` wrote, or a folder of Parquet files."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import FiltersubError, reason
from ..image_reading import decoded_image
from .images import Chosen, Fence, Source
from .parts import by_part
from .problems import classes_up_to, problem


@dataclass(frozen=True)
class HubImages:
    """Rows of a ``datasets.Dataset`` whose image column is left encoded until an image is asked for."""

    rows: Any
    column: str
    what: str
    fence: Fence
    labels: np.ndarray

    def name(self, index: int) -> str:
        return f"{self.what} row {index}"

    def open(self, index: int) -> Image.Image:
        value = self.rows[index][self.column]
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
    values = {part: _values(rows, label, f"{folder}, {part}") for part, rows in parts.items()}
    kind = parts["train"].features[label]
    named = tuple(kind.names) if isinstance(kind, _library().ClassLabel) else None
    classes, number = _classes(values["train"], named)
    fence, found, problems = Fence(folder), {}, []
    n_classes = len(classes) or classes_up_to(max(map(number, values["train"]), default=0), folder)
    for part, rows in parts.items():
        labels = np.array([number(value) for value in values[part]], dtype=np.int64)
        usable = np.flatnonzero((labels >= 0) & (labels < n_classes))
        empty = [f"row {row}" for row, value in enumerate(values[part]) if value is None]
        problems += problem("label", part, empty, "rows without a label; fill it in, or remove the row")
        unknown = np.setdiff1d(np.arange(len(labels)), usable)
        wrong = [f"row {row} ({values[part][row]})" for row in unknown if values[part][row] is not None]
        words = "labels that no training image has" if classes else f"labels not in 0..{n_classes - 1}"
        problems += problem("label", part, wrong, words)
        # the image column alone, as bytes or a path: the library would otherwise open any path that a row names
        encoded = rows.select_columns([image])
        if isinstance(rows.features[image], _library().Image):
            encoded = encoded.cast_column(image, _library().Image(decode=False))
        found[part] = Chosen(HubImages(encoded, image, part, fence, labels), usable)
    search = found["train"] if "validation" in found else None
    return Source(n_classes, search=search, classes=classes, problems=tuple(problems), **found)


def _splits(folder: Path) -> dict[str, Any]:
    datasets = _library()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            fence, named = Fence(folder), {}  # the files of each word that names begin with
            for path in sorted(path for place in (folder, folder / "data") for path in place.glob("*.parquet")):
                if fence.holds(path.relative_to(folder).as_posix()):
                    named.setdefault(re.match("[A-Za-z]*", path.name)[0], []).append(str(path))
            files = {part: named[word] for part, word in by_part(named, folder).items()}
            if not files:
                words = "neither a data set saved by save_to_disk nor a folder of train*.parquet files"
                raise FiltersubError(f"{folder} is {words}")
            loaded = datasets.load_dataset("parquet", data_files=files)
    except FiltersubError:
        raise
    except Exception as error:  # the library raises classes of many others
        raise FiltersubError(f"{folder} cannot be read as a data set: {reason(error)}") from None
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    return {part: splits[name] for part, name in by_part(splits, folder).items()}


def _columns(rows: Any, columns: Mapping[str, str], folder: Path) -> tuple[str, str]:
    datasets, kinds = _library(), rows.features
    images = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    images += [name for name, kind in kinds.items() if isinstance(kind, dict) and set(kind) == {"bytes", "path"}]
    labels = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [name for name in ("label", "labels", "class", "target") if name in kinds]
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


def _values(rows: Any, label: str, where: str) -> list[int | str | None]:
    """The labels of a part: names where it has names of classes, whole numbers, or texts; None where one is missing.

    Each part has its own list of names, which may have another order. Raises FiltersubError for lists and fractions.
    """
    kind, found = rows.features[label], []
    for row, value in enumerate(rows[label]):
        if isinstance(value, float) and math.isnan(value):
            value = None  # pandas writes whole numbers of which some are missing so
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, float | list | dict):
            raise FiltersubError(
                f"{where}, row {row}: the label in the column {label!r} is {str(value)[:60]}; a label is a whole "
                "number or a name"
            )
        if isinstance(kind, _library().ClassLabel) and value is not None:
            value = kind.names[value] if 0 <= value < len(kind.names) else None
        elif value is not None and not isinstance(value, int):
            value = str(value).strip() or None  # an empty label is no class
        found.append(value)
    return found


def _classes(
    train: list[int | str | None], named: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Callable[[int | str | None], int]]:
    """(names of the classes, a function from a label to its number, -1 for a label that no training image has).

    ``named`` : the names that the training images come with; numbers of another part are places in them.
    """
    present = {value for value in train if value is not None}
    if named is None and all(isinstance(value, int) for value in present):
        return (), lambda value: int(value) if isinstance(value, int) or re.fullmatch("[0-9]{1,9}", value or "") else -1
    names = named or tuple(sorted(map(str, present)))
    place = {name: position for position, name in enumerate(names)}

    def number(value: int | str | None) -> int:
        if named is not None and isinstance(value, int):
            return value
        return -1 if value is None else place.get(str(value), -1)

    return names, number


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise FiltersubError("hf: data sets need the library datasets: pip install 'filtersub[datasets]'") from None
    return datasets
