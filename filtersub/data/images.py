"""Images with labels as they lie on disk or in memory, nothing decoded yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..image_reading import decoded_image
from .problems import Problem


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
