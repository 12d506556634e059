"""Folders with a subfolder a class, listed in the order of torchvision's ImageFolder, without hidden files."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import FiltersubError, meant, reason
from ..image_reading import IMAGE_SUFFIXES, is_hidden, is_image_path
from .images import FileImages, Source, fenced_images
from .parts import by_part, part_of
from .problems import Problem, problem


def open_folder(folder: Path, *, val_is_test: bool = False) -> Source:
    """The parts of a folder: train/, val/ and test/ with a subfolder a class each, or the classes directly.

    Parts go by any of their usual names (parts.PART_NAMES). Classes are the subfolders of train/ in alphabetical order;
    folders within a class belong to it. Where there is val/ but no test/, val/ is tested on and validation images are
    held out of train/, as everyone does with ImageNet-1K. With classes directly below the folder, a fifth of each class
    is held out.

    Raises FiltersubError when there is no class folder, a single one that holds folders, two folders for one part,
    parts without train/, or a class that train/ does not have.
    """
    places = _parts(folder)
    train = places.pop("train", folder)
    classes = _classes(train)
    images, problems = _part(train, classes, "train")
    if train == folder:
        return Source(len(classes), images, classes=classes, problems=tuple(problems))
    unread = [name for name in _subfolders(folder) if part_of(name) is None]
    problems += problem("other folder", "", unread, f"folders beside {train.name}/ that are not read", fatal=False)
    if "validation" in places and ("test" not in places or val_is_test):
        places = {"test": places["validation"]}
    others: dict[str, FileImages] = {}
    for part, place in places.items():
        others[part], found = _part(place, classes, part)
        problems += found
    search = images if "validation" in others else None
    return Source(len(classes), images, search=search, classes=classes, problems=tuple(problems), **others)


def count_classes(folder: Path) -> int:
    """Class folders of an ImageFolder, without looking at any image."""
    return len(_classes(_parts(folder).get("train", folder)))


def _parts(folder: Path) -> dict[str, Path]:
    """The folder of each part; empty where the classes lie directly below.

    A folder that is called like a part is one where it holds folders, or where no folder is called otherwise: ``train``
    beside ``bus`` and ``car`` is a class.
    """
    names = _subfolders(folder)
    words = [name for name in names if part_of(name)]
    if not words or (len(words) < len(names) and not any(_subfolders(folder / name) for name in words)):
        return {}
    parts = {part: folder / name for part, name in by_part(words, folder).items()}
    if "train" not in parts:
        raise FiltersubError(f"{folder} has {' and '.join(words)}, but no folder train with the training images")
    return parts


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise FiltersubError(f"cannot list the folder {error.filename}: {reason(error)}") from None


def _classes(folder: Path) -> tuple[str, ...]:
    names = _subfolders(folder)
    if not names:
        raise FiltersubError(f"{folder} has no subfolder; an ImageFolder has one for each class")
    if len(names) == 1 and (within := _subfolders(folder / names[0])):
        raise FiltersubError(
            f"{folder} has a single subfolder, {names[0]}, which holds folders itself ({', '.join(within[:3])}"
            f"{', ...' if len(within) > 3 else ''}); the classes must lie directly in {folder}"
        )
    return tuple(names)


def _part(folder: Path, classes: tuple[str, ...], part: str) -> tuple[FileImages, list[Problem]]:
    own = _subfolders(folder)
    if unknown := sorted(set(own) - set(classes)):
        hint = meant(unknown[0], classes)
        raise FiltersubError(f"{folder} has the class {unknown[0]!r}, which the training images do not have{hint}")
    rows: list[tuple[str, int]] = []
    others: list[str] = []
    for label, name in enumerate(classes):
        for relative in _files(folder, name) if name in own else ():
            if is_image_path(relative) or (folder / relative).is_dir():  # a folder outside, for the fence to name
                rows.append((relative, label))
            else:
                others.append(relative)
    loose = [entry.name for entry in os.scandir(folder) if is_image_path(entry.name) and not entry.is_dir()]
    images, problems = fenced_images(folder, rows, len(classes), part)
    read = ", ".join(IMAGE_SUFFIXES)
    problems += problem("other file", part, others, f"files that are not read, their suffix is not {read}", fatal=False)
    words = "images that are not read, they lie in no class folder"
    problems += problem("other file", part, sorted(loose), words, fatal=False)
    if not rows:
        problems += problem("count", part, [str(folder)], "folders without any image")
    return images, problems


def _files(root: Path, name: str) -> Iterator[str]:
    """Files below a class folder relative to ``root``, in torchvision's order, without hidden ones.

    Links to folders below ``root`` are followed, each folder once; one that leads out of it is given in place of its
    files.
    """
    seen: set[str] = set()
    within = os.path.realpath(root)
    found: list[tuple[str, list[str]]] = []

    def refuse(error: OSError) -> None:
        raise FiltersubError(f"cannot list the folder {error.filename}: {reason(error)}")

    for place, folders, files in os.walk(root / name, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if not Path(real).is_relative_to(within):
            found.append((os.path.dirname(place), [os.path.basename(place)]))
            folders.clear()
        elif real in seen:  # a link to a folder above: without end otherwise
            folders.clear()
        else:
            seen.add(real)
            folders[:] = [folder for folder in folders if not is_hidden(folder)]
            found.append((place, [file for file in files if not is_hidden(file)]))
    for place, files in sorted(found):
        yield from (os.path.relpath(os.path.join(place, file), root) for file in sorted(files))
