"""Where data sets are put."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FILTERSUB_DATA"
_CHECKOUT = Path(__file__).resolve().parents[2] / "data"


def data_root() -> Path:
    """The folder of the environment variable FILTERSUB_DATA; else data/ of the checkout, or of the working folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    return _CHECKOUT if (_CHECKOUT / "README.md").is_file() else Path("data").resolve()


def descriptions_folder() -> Path:
    """Where data/*.yaml are: in the checkout, or inside the installed package."""
    packed = Path(__file__).resolve().parent / "descriptions"
    return packed if packed.is_dir() else _CHECKOUT


def place(path: str) -> Path:
    """A path as a user gives it: as it stands where it exists, else below the data root."""
    given = Path(path).expanduser()
    return given if given.is_absolute() or given.exists() else data_root() / given
