"""Images with labels as they lie on disk or in memory, nothing decoded yet.

Paths in lists stay under their root: no absolute path, no step upwards, no link that leads out.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
from PIL import Image

from ..files import as_path
from ..image_reading import decoded_image
from .problems import Problem, problem


class Images(Protocol):
    """A sequence of images: ``labels`` int64 (n,), the name of each for messages, and the image itself, RGB."""

    labels: np.ndarray

    def name(self, index: int) -> str: ...

    def open(self, index: int) -> Image.Image: ...


@dataclass(frozen=True)
class FileImages:
    """Image files below ``root``, by their paths relative to it."""

    root: Path
    files: tuple[str, ...]
    labels: np.ndarray

    def name(self, index: int) -> str:
        return self.files[index]

    def open(self, index: int) -> Image.Image:
        return decoded_image(self.root / self.files[index])


@dataclass(frozen=True)
class PixelImages:
    """Images in memory: ``pixels`` uint8 (n, height, width, 3)."""

    what: str
    pixels: np.ndarray
    labels: np.ndarray

    def name(self, index: int) -> str:
        return f"{self.what} image {index}"

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@dataclass(frozen=True)
class Chosen:
    """Some of the images of another sequence, in the order of ``indices``."""

    images: Images
    indices: np.ndarray
    labels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.images.labels[self.indices])

    def name(self, index: int) -> str:
        return self.images.name(int(self.indices[index]))

    def open(self, index: int) -> Image.Image:
        return self.images.open(int(self.indices[index]))


@dataclass(frozen=True)
class Source:
    """A data set as it lies there: its parts, and what is wrong with them as far as names and labels tell.

    Attributes
    ----------
    n_classes : int
    train : all training images
    test : what is reported; None where the set has no such part, and a fifth of each class is held out instead
    search, validation : where settings are chosen: the training images without those of validation. None where the set
        names none, and a fifth of each class is held out instead
    classes : names of the classes, where they have any
    problems : found without decoding anything
    crop : as Description.crop
    """

    n_classes: int
    train: Images
    test: Images | None = None
    search: Images | None = None
    validation: Images | None = None
    classes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    crop: float | None = None


class Fence:
    """Tells files below ``root`` from paths that leave it; folders are resolved once each.

    ``root`` itself may be a link: who names it, means it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = as_path(root).resolve()
        self._inside: dict[str, bool] = {}

    def holds(self, relative: str) -> bool:
        """Whether the path, links followed, lies below the root, be there a file or not."""
        path = PurePath(relative)
        if path.anchor or ".." in path.parts or "\0" in relative:
            return False
        folder = str(path.parent)
        if folder not in self._inside:
            self._inside[folder] = self._leads_inside(self.root / folder)
        if not self._inside[folder]:
            return False
        return self._leads_inside(self.root / path, follow=False)

    def _leads_inside(self, path: Path, follow: bool = True) -> bool:
        try:
            return not (follow or path.is_symlink()) or path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # a name too long, or links in a circle: it leads nowhere
            return True


def fenced_images(
    root: str | os.PathLike[str], rows: Iterable[tuple[str, int]], n_classes: int, part: str
) -> tuple[FileImages, list[Problem]]:
    """The images of a list of (path relative to ``root``, label), without the unusable ones, and these named."""
    fence = Fence(root)
    kept: list[tuple[str, int]] = []
    outside, missing, labels = [], [], []
    for path, label in rows:
        if not fence.holds(path):
            outside.append(path)
        elif not os.path.isfile(fence.root / path):  # False for a name too long for the disk, or a link in a circle
            missing.append(path)
        elif not 0 <= label < n_classes:
            labels.append(f"{path} {label}")
        else:
            kept.append((path, label))
    found = [
        *problem("outside", part, outside, f"paths that lead out of {fence.root}, where the files must lie"),
        *problem("missing image", part, missing, f"images in the list but not in {fence.root}"),
        *problem("label", part, labels, f"labels not in 0..{n_classes - 1}"),
    ]
    images = FileImages(fence.root, tuple(path for path, _ in kept), np.array([n for _, n in kept], dtype=np.int64))
    return images, found
