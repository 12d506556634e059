"""What the name of a data set means: a described set, or a path behind ``folder:``, ``csv:`` or ``hf:``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ..errors import FiltersubError, check_name, meant
from ..schema import shown
from .catalogue import VARIABLE, Description, catalogue, data_root, folder_of, place
from .problems import DataMissing

if TYPE_CHECKING:
    from .images import Source

#: Prefix -> what stands behind it.
PATH_KINDS = {
    "folder": "an ImageFolder: PATH/train/CLASS/*, PATH/val, PATH/test, or the classes directly",
    "csv": "a CSV list with columns path, label and split, or a folder of train.csv, val.csv, test.csv",
    "hf": "a Hugging Face data set saved to disk, or a folder of train*.parquet files",
}


def described(name: str) -> Description | None:
    """What is known of a name beforehand; None for paths. Raises FiltersubError for unknown names."""
    if not isinstance(name, str):
        raise FiltersubError(f"data must be the name of a data set, or 'folder:PATH', got {shown(name)}")
    known = catalogue()
    if name in known:
        return known[name]
    kind, _, rest = name.partition(":")
    if kind in PATH_KINDS and rest:
        return None
    if name and any(map(os.path.exists, (name, data_root() / name))):
        raise FiltersubError(f"unknown data set {name!r}; a folder of images is 'folder:{name}', a list 'csv:{name}'")
    short = [key for key in known if not key.startswith("vtab:")]
    raise FiltersubError(
        f"unknown data set {name!r}; known: {', '.join(short)}, vtab:TASK, {', '.join(f'{k}:PATH' for k in PATH_KINDS)}"
        f"{meant(name, known)} (`filtersub data list` shows all)"
    )


def path_of(name: str) -> tuple[Path, dict[str, str]]:
    """(path, columns) of a name such as ``csv:lists/birds.csv?label=species``."""
    path, _, query = name.partition(":")[2].partition("?")
    columns = dict(parse_qsl(query))
    for column in sorted(columns):
        check_name(f"column in {name!r}:", column, ("image", "label", "split"))
    return place(path), columns


def n_classes(name: str) -> int:
    """Classes of a data set by name, before any image is loaded. Raises FiltersubError for names that say nothing."""
    known = described(name)
    if known is not None:
        return known.classes
    if name.startswith("folder:") and path_of(name)[0].is_dir():
        from .folders import count_classes

        return count_classes(path_of(name)[0])
    return open_source(name).n_classes


def open_source(name: str) -> Source:
    """A data set by name, read as far as names and labels; no image is decoded.

    Raises DataMissing (a FiltersubError), saying where it is looked for, when it is not there, FiltersubError when it
    is no such set.
    """
    known = described(name)
    if known is None:
        return _open_path(name)
    folder = folder_of(known)
    if folder is None:
        from .digits import open_digits

        return open_digits()
    if not folder.is_dir():
        where = f"{name} is not at {folder} (set {VARIABLE} to look elsewhere)"
        raise DataMissing(f"{where}; to obtain it: {known.obtain}")
    if name == "cifar100":
        from .cifar import open_cifar100

        return open_cifar100(folder)
    if name == "fashion-mnist":
        from .idx import open_idx

        return open_idx(folder, known.classes)
    from .listed import LISTED, open_vtab

    if name.startswith("vtab:"):
        return open_vtab(folder, known)
    if name in LISTED:
        return LISTED[name](folder)
    from .folders import open_folder

    found = replace(open_folder(folder, val_is_test=True), crop=known.crop)
    if found.n_classes != known.classes:
        raise FiltersubError(
            f"{folder} has {found.n_classes} class folders where {known.name} has {known.classes}; complete it, or "
            f"name it as folder:{folder}"
        )
    return found


def _open_path(name: str) -> Source:
    path, columns = path_of(name)
    kind = name.partition(":")[0]
    if not path.exists():
        given = Path(name.partition(":")[2].partition("?")[0]).expanduser()
        also = "" if given.is_absolute() else f", nor at {given.absolute()}"
        raise DataMissing(f"{name}: there is nothing at {path}{also}; expected is {PATH_KINDS[kind]}")
    if kind == "csv":
        from .csv_lists import open_csv

        return open_csv(path, columns)
    if not path.is_dir():
        raise FiltersubError(f"{name}: {path} is a file; expected is {PATH_KINDS[kind]}")
    if kind == "folder":
        from .folders import open_folder

        return open_folder(path)
    from .hub import open_hub

    return open_hub(path, columns)
