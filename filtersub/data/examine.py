"""What is odd about a set and hinders nothing: dark images, one content twice, classes without images, names alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..image_reading import is_nearly_black, pixel_digest
from .images import Images, Source
from .problems import Problem, problem, reason

_CHUNK = 512


class Examined(NamedTuple):
    """What an image shows of itself.

    Attributes
    ----------
    name : for messages
    digest : of its pixels; None where it cannot be decoded
    fault : why not; empty where it can
    dark : whether image_reading.is_nearly_black
    """

    name: str
    digest: bytes | None
    fault: str
    dark: bool


def examine(images: Images, index: int) -> tuple[Examined, Image.Image | None]:
    """What an image shows, and the image where it can be decoded."""
    name = images.name(index)
    try:
        image = images.open(index)
    except Exception as error:  # every format's reader raises classes of its own
        return Examined(name, None, reason(error), False), None
    return Examined(name, pixel_digest(image), "", is_nearly_black(image)), image


def examined(images: Images) -> Iterator[Examined]:
    """All images in their order, decoded by several threads, a few at a time."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(images.labels), _CHUNK):
            places = range(first, min(first + _CHUNK, len(images.labels)))
            yield from pool.map(lambda index: examine(images, index)[0], places)


def doubts(found: Sequence[Examined], labels: Sequence[int], part: str) -> list[Problem]:
    """What is odd about decoded images and hinders nothing: next to black, one content under two labels."""
    dark = [each.name for each in found if each.dark]
    two = contradictions([each.digest for each in found], labels, lambda index: found[index].name)
    return [
        *problem("dark image", part, dark, _DARK, fatal=False),
        *problem("two labels", part, two, "images of one content and different labels", fatal=False),
    ]


_DARK = (
    "16-bit images whose brightest pixel is at most a sixteenth of the range, so next to black; 12 bits in 16 must be "
    "scaled to the full range"
)


Digests = Sequence[bytes | None]  # None where an image cannot be decoded
Name = Callable[[int], str]


def shared_images(trained: Digests, trained_name: Name, judged: Digests, judged_name: Name) -> list[str]:
    """``JUDGED = TRAINED`` for each judged image whose content is among the training images too."""
    first = {digest: index for index, digest in enumerate(trained) if digest is not None}
    return [
        f"{judged_name(index)} = {trained_name(first[digest])}"
        for index, digest in enumerate(judged)
        if digest in first
    ]


def repeated_images(digests: Digests, name: Name) -> list[str]:
    """``LATER = FIRST`` for each image whose content an earlier one of the same part has."""
    first: dict[bytes, int] = {}
    found = []
    for index, digest in enumerate(digests):
        if digest is not None and first.setdefault(digest, index) != index:
            found.append(f"{name(index)} = {name(first[digest])}")
    return found


def contradictions(digests: Digests, labels: Sequence[Any], name: Name) -> list[str]:
    """``LATER = FIRST`` for each image whose content an earlier one has under another label."""
    first: dict[bytes, int] = {}
    return [
        f"{name(index)} = {name(first[digest])}"
        for index, digest in enumerate(digests)
        if digest is not None and labels[first.setdefault(digest, index)] != labels[index]
    ]


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
