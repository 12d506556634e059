"""What is odd about a set and hinders nothing: dark images, one content twice, classes without images, names alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import reason
from ..image_reading import is_nearly_black, pixel_digest
from .images import Images, Source
from .problems import Problem, problem

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


def examined(images: Images, keep: Callable[[int, Image.Image], None] | None = None) -> Iterator[Examined]:
    """All images in their order, decoded by several threads, a few at a time; ``keep`` gets each with its place."""

    def look(index: int) -> Examined:
        name = images.name(index)
        try:
            image = images.open(index)
        except Exception as error:  # every format's reader raises classes of its own
            return Examined(name, None, reason(error, 120), False)
        if keep is not None:
            keep(index, image)
        return Examined(name, pixel_digest(image), "", is_nearly_black(image))

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(images.labels), _CHUNK):
            yield from pool.map(look, range(first, min(first + _CHUNK, len(images.labels))))


def doubts(found: Sequence[Examined], labels: Sequence[int], part: str) -> list[Problem]:
    """What is odd about decoded images and hinders nothing: next to black, one content under two labels."""
    dark = [each.name for each in found if each.dark]
    two = repeated_images([each.digest for each in found], lambda index: found[index].name, labels)
    words = "16-bit images next to black (at most a sixteenth of the range); scale 12 bits in 16 to the full range"
    return [
        *problem("dark image", part, dark, words, fatal=False),
        *problem("two labels", part, two, "images of one content and different labels", fatal=False),
    ]


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


def repeated_images(digests: Digests, name: Name, labels: Sequence[int] | None = None) -> list[str]:
    """``LATER = FIRST`` for each image whose content an earlier one of the same part has; with ``labels`` only where
    the two have different ones."""
    first: dict[bytes, int] = {}
    told = range(len(digests)) if labels is None else labels
    return [
        f"{name(index)} = {name(first[digest])}"
        for index, digest in enumerate(digests)
        if digest is not None and told[first.setdefault(digest, index)] != told[index]
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
            words = "classes without an image"
            found += problem("empty class", part, [names[label] for label in empty], words, fatal=False)
    first: dict[str, str] = {}
    alike = []
    for name in source.classes:
        known = first.setdefault("".join(name.casefold().split()), name)
        if known != name:
            alike.append(f"{known!r} and {name!r}")
    words = "two classes whose names differ in case or blanks alone"
    return found + problem("class name", "", alike, words, fatal=False)
