"""One image opened to be looked at: a digest of its pixels, why it cannot be decoded, whether it is next to black."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from ..image_reading import is_nearly_black, pixel_digest
from .duplicates import contradictions
from .images import Images
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
