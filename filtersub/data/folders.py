"""Folders with a subfolder a class, listed in the order of torchvision's ImageFolder, without hidden files."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FiltersubError
from ..image_reading import IMAGE_SUFFIXES, is_hidden, is_image_path
from .images import FileImages, Source
from .paths import fenced_images
from .problems import Problem, problem

_TEST, _VALIDATION = ("test",), ("val", "valid", "validation")


def open_folder(folder: Path, *, val_is_test: bool = False) -> Source:
    """The parts of a folder: train/, val/ and test/ with a subfolder a class each, or the classes directly.

    Classes are the subfolders of train/ in alphabetical order. Where there is val/ but no test/, val/ is tested on and
    validation images are held out of train/, as everyone does with ImageNet-1K. With classes directly below the folder,
    a fifth of each class is held out. Raises FiltersubError when there is no class folder, or a part has other classes.
    """
    train = folder / "train"
    if not train.is_dir():
        classes = _classes(folder)
        images, problems = _part(folder, classes, "train")
        return Source(len(classes), images, classes=classes, problems=tuple(problems))
    classes = _classes(train)
    images, problems = _part(train, classes, "train")
    test, validation = _first(folder, _TEST), _first(folder, _VALIDATION)
    if test is None or val_is_test:
        test, validation = validation or test, None
    others: dict[str, FileImages] = {}
    for part, place in (("test", test), ("validation", validation)):
        if place is not None:
            others[part], found = _part(place, classes, part)
            problems += found
    search = images if "validation" in others else None
    return Source(len(classes), images, search=search, classes=classes, problems=tuple(problems), **others)


def count_classes(folder: Path) -> int:
    """Class folders of an ImageFolder, without looking at any image."""
    return len(_classes(folder / "train" if (folder / "train").is_dir() else folder))


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    if not names:
        raise FiltersubError(f"{folder} has no subfolder; an ImageFolder has one for each class")
    return tuple(names)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _part(folder: Path, classes: tuple[str, ...], part: str) -> tuple[FileImages, list[Problem]]:
    from torchvision.datasets.folder import make_dataset

    if unknown := sorted(set(_classes(folder)) - set(classes)):
        raise FiltersubError(f"{folder} has the class {unknown[0]!r}, which the training images do not have")
    others: list[str] = []

    def is_image(path: str) -> bool:
        relative = os.path.relpath(path, folder)
        if not is_image_path(relative) and not is_hidden(relative):
            others.append(relative)
        return is_image_path(relative)

    number = {name: label for label, name in enumerate(classes)}
    found = make_dataset(folder, number, is_valid_file=is_image, allow_empty=True)  # lists paths and opens nothing
    rows = [(os.path.relpath(path, folder), label) for path, label in found]
    images, problems = fenced_images(folder, rows, len(classes), part)
    read = ", ".join(IMAGE_SUFFIXES)
    problems += problem("other file", part, others, f"files that are not read, their suffix is not {read}", fatal=False)
    if not rows:
        problems += problem("count", part, [str(folder)], "folders without any image")
    return images, problems
