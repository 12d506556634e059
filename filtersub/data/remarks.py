"""What is worth knowing of a set and hinders nothing: classes without images, two names that look like one class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .images import Images, Source
from .problems import Problem, problem


def remarks(source: Source, parts: Mapping[str, Images]) -> list[Problem]:
    """Problems that are not fatal, of the class names, and of the labels of ``parts`` by their names.

    Classes without an image are looked for in "train" and "test" alone: VTAB's 200 validation images have none of some
    of 397 classes.
    """
    names = source.classes or tuple(str(label) for label in range(source.n_classes))
    found = []
    for part in ("train", "test"):
        labels = parts[part].labels if part in parts else np.array([], dtype=np.int64)
        if len(labels):
            empty = np.flatnonzero(np.bincount(labels, minlength=source.n_classes) == 0)
            found += problem("empty class", part, [names[label] for label in empty], _EMPTY, fatal=False)
    return found + problem("class name", "", _alike(source.classes), _ALIKE, fatal=False)


_EMPTY = "classes without an image"
_ALIKE = "two classes whose names differ in case or blanks alone"


def _alike(classes: tuple[str, ...]) -> list[str]:
    """``Cat and cat`` for each two classes that people may take for one."""
    first: dict[str, str] = {}
    found = []
    for name in classes:
        known = first.setdefault("".join(name.casefold().split()), name)
        if known != name:
            found.append(f"{known!r} and {name!r}")
    return found
