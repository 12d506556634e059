"""Images as a model takes them: decoded when asked for, resized, normalised; small sets held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import FiltersubError
from .examine import Examined, doubts, examine, examined
from .images import Images
from .problems import Problem, problem, reason, refuse

_HELD_BYTES = 512 * 2**20
_LOOKED_AT = 100_000  # images; those of ImageNet-1K to train on would take as long as an epoch


class PreparedImages(Dataset):
    """A torch data set of (image (3, size, size) float32, label int).

    Images are squeezed into the square by bicubic interpolation, as VTAB-1k's users do; with ``crop`` the shorter side
    becomes size / crop and the middle is cut out. ``hold`` decodes up to 100,000 images at once, so that all broken
    ones are named and counted before the first step, and keeps them where they take at most 512 MiB; ``digests``
    (pixel_digest of each whole image) and ``doubts`` are then known, else None and empty.

    Raises FiltersubError naming the image that cannot be decoded.
    """

    def __init__(
        self,
        images: Images,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        name: str,
        part: str = "train",
        crop: float | None = None,
        hold: bool = False,
    ) -> None:
        self.images, self.size, self.crop, self.name, self.part = images, size, crop, name, part
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        self.pixels: Tensor | None = None
        self.digests: list[bytes | None] | None = None
        self.doubts: list[Problem] = []
        if hold and len(self) * 3 * size * size <= _HELD_BYTES:
            self.pixels = torch.empty(len(self), 3, size, size, dtype=torch.uint8)
            self.digests, self.doubts = looked_at(images, name, part, self._with_pixels(self.pixels))
        elif hold:
            self.digests, self.doubts = looked_at(images, name, part)

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self._pixels(index) if self.pixels is None else self.pixels[index]
        return (pixels.float() / 255 - self.mean) / self.std, int(self.images.labels[index])

    def _pixels(self, index: int) -> Tensor:
        """(3, size, size) uint8."""
        return self._fitted(opened(self.images, index, self.name))

    def _fitted(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(fitted(image, self.size, self.crop))).permute(2, 0, 1)

    def _with_pixels(self, pixels: Tensor) -> Iterator[Examined]:
        """What each image shows, while it is put into its place in ``pixels``."""
        for index in range(len(self)):
            found, image = examine(self.images, index)
            if image is not None:
                pixels[index] = self._fitted(image)
            yield found


def opened(images: Images, index: int, name: str) -> Image.Image:
    """An image of the set ``name``. Raises FiltersubError where it cannot be decoded, saying why and what to do."""
    try:
        return images.open(index)
    except Exception as error:  # every format's reader raises classes of its own
        raise FiltersubError(
            f"{name}: the image {images.name(index)} cannot be decoded ({reason(error)}); replace it, `filtersub data "
            f"check {name}` lists all such images"
        ) from None


def looked_at(
    images: Images, name: str, part: str = "train", found: Iterable[Examined] | None = None
) -> tuple[list[bytes | None] | None, list[Problem]]:
    """Decode a set: (a digest of each image's pixels, what is odd about them); None and nothing for over 100,000.

    ``found`` : what the images show where they are decoded elsewhere. Raises FiltersubError that names the broken ones.
    """
    if found is None and len(images.labels) > _LOOKED_AT:
        return None, []
    found = list(examined(images) if found is None else found)
    _refuse_broken({each.name: each.fault for each in found if each.fault}, part, name)
    return [each.digest for each in found], doubts(found, images.labels, part)


def _refuse_broken(broken: dict[str, str], part: str, name: str) -> None:
    """``broken``: why, by name."""
    found = problem("broken image", part, broken, "images that cannot be decoded")
    first = next(iter(broken.values()), "")
    refuse([replace(each, message=f"{each.message} (the first: {first})") for each in found], name)


def fitted(image: Image.Image, size: int, crop: float | None) -> Image.Image:
    """An image as a square of ``size`` pixels; bicubic."""
    if crop is None:
        return image.resize((size, size), Image.Resampling.BICUBIC)
    scale = size / crop / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
