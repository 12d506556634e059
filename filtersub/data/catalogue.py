"""What is known of the data sets described in data/*.yaml: classes, counts, where they are put, how to obtain them."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from ..errors import FiltersubError
from ..yaml_file import packaged_yaml

VARIABLE = "FILTERSUB_DATA"
_CHECKOUT = Path(__file__).resolve().parents[2] / "data"


def data_root() -> Path:
    """The folder of the environment variable FILTERSUB_DATA; else data/ of the checkout, or of the working folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    return _CHECKOUT if (_CHECKOUT / "README.md").is_file() else Path("data").resolve()


def place(path: str) -> Path:
    """A path as a user gives it: as it stands where it exists, else below the data root."""
    given = Path(path).expanduser()
    return given if given.is_absolute() or given.exists() else data_root() / given


@dataclass(frozen=True)
class Description:
    """One data set.

    Attributes
    ----------
    name : as `filtersub tune --data` takes it
    title, group : for people; the group of a VTAB task is natural, specialized or structured
    classes : int
    train, validation, test : images; the validation images are part of the training images, 0 where none are named
    folder : below the data root; None where the set needs no files
    obtain : how to get it, in words; nothing is ever downloaded
    crop : share of the enlarged image that is kept in its middle; None squeezes the whole image into the square
    """

    name: str
    title: str
    group: str
    classes: int
    train: int
    validation: int
    test: int
    folder: str | None
    obtain: str
    crop: float | None = None


@cache
def catalogue() -> dict[str, Description]:
    """All described sets by name, the digits first. Raises FiltersubError where a description is damaged."""
    packed = Path(__file__).resolve().parent / "descriptions"  # of the installed package
    folder = packed if packed.is_dir() else _CHECKOUT
    found = {}
    for path in sorted(folder.glob("*.yaml"), key=lambda path: (path.stem != "digits", path.stem)):
        try:
            content = packaged_yaml(path)
            for name, values in content["sets"].items():
                found[name] = Description(**{"name": name, **content["defaults"], **values})
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise FiltersubError(f"{path} is no description of data sets: {' '.join(str(error).split())}") from None
    return found


def folder_of(described: Description) -> Path | None:
    """Where the set's files are looked for; None where it needs none."""
    return None if described.folder is None else data_root() / described.folder


def is_there(described: Description) -> bool:
    """Whether the set's folder exists; whether it is whole, check_data says."""
    folder = folder_of(described)
    return folder is None or folder.is_dir()
