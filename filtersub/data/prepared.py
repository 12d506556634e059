"""Images as a model takes them: decoded when asked for, resized or augmented, normalised; small sets held in memory.

Augmented images are drawn anew each epoch, by transforms of torchvision and timm, seeded by image and epoch.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import FiltersubError, reason
from ..random_states import seeded
from .examine import doubts, examined
from .images import Images
from .problems import Problem, problem, refuse
from .views import check_augmentation

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
            self.digests, self.doubts = looked_at(images, name, part, self._hold)
        elif hold:
            self.digests, self.doubts = looked_at(images, name, part)

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.pixels[index] if self.pixels is not None else self._fitted(opened(self.images, index, self.name))
        return (pixels.float() / 255 - self.mean) / self.std, int(self.images.labels[index])

    def _fitted(self, image: Image.Image) -> Tensor:
        """(3, size, size) uint8."""
        return torch.from_numpy(np.array(fitted(image, self.size, self.crop))).permute(2, 0, 1)

    def _hold(self, index: int, image: Image.Image) -> None:
        self.pixels[index] = self._fitted(image)


class AugmentedImages(Dataset):
    """A torch data set of (image (3, size, size) float32, label int), another view of each image in each epoch.

    What an image becomes depends on ``seed``, the epoch and its place in the set alone, so neither on the process or
    worker that reads it nor on what was read before. ``begin_epoch`` says which epoch it is, 0 at first.

    Parameters
    ----------
    hold : decode up to 100,000 images at once, so that all broken ones are named before the first step

    Raises FiltersubError for unknown augmentations, and naming the image that cannot be decoded.
    """

    def __init__(
        self,
        images: Images,
        augmentation: str,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        name: str,
        seed: int = 0,
        hold: bool = False,
    ) -> None:
        self.images, self.name, self.seed, self.epoch = images, name, seed, 0
        self.transform = _transform(augmentation, size, mean, std)
        self.digests, self.doubts = looked_at(images, name) if hold else (None, [])

    def begin_epoch(self, epoch: int) -> None:
        """Not named set_epoch: accelerate calls a method of that name with its own count of the passes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = opened(self.images, index, self.name)
        with seeded(self.seed, self.epoch, index):
            return self.transform(image), int(self.images.labels[index])


def opened(images: Images, index: int, name: str) -> Image.Image:
    """An image of the set ``name``. Raises FiltersubError where it cannot be decoded, saying why and what to do."""
    try:
        return images.open(index)
    except Exception as error:  # every format's reader raises classes of its own
        raise FiltersubError(
            f"{name}: the image {images.name(index)} cannot be decoded ({reason(error, 120)}); replace it, `filtersub "
            f"data check {name}` lists all such images"
        ) from None


def looked_at(
    images: Images, name: str, part: str = "train", keep: Callable[[int, Image.Image], None] | None = None
) -> tuple[list[bytes | None] | None, list[Problem]]:
    """Decode a set: (a digest of each image's pixels, what is odd about them); None and nothing for over 100,000.

    ``keep`` gets each image with its place, however many they are. Raises FiltersubError that names the broken ones.
    """
    if keep is None and len(images.labels) > _LOOKED_AT:
        return None, []
    found = list(examined(images, keep))
    faults = [each.fault for each in found if each.fault]
    broken = problem("broken image", part, [each.name for each in found if each.fault], "images that cannot be decoded")
    refuse([replace(each, message=f"{each.message} (the first: {faults[0]})") for each in broken], name)
    return [each.digest for each in found], doubts(found, images.labels, part)


def fitted(image: Image.Image, size: int, crop: float | None) -> Image.Image:
    """An image as a square of ``size`` pixels; bicubic."""
    if crop is None:
        return image.resize((size, size), Image.Resampling.BICUBIC)
    scale = size / crop / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def _transform(
    name: str, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Image.Image], Tensor]:
    check_augmentation(name)
    if name == "timm":
        from timm.data import create_transform

        augment = {"auto_augment": "rand-m9-mstd0.5-inc1", "interpolation": "random"}
        erase = {"re_prob": 0.25, "re_mode": "pixel"}
        return create_transform(size, is_training=True, mean=mean, std=std, **augment, **erase)
    from torchvision.transforms import v2

    operations = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    if name == "randaugment":
        operations.append(v2.RandAugment())
    return v2.Compose(
        [*operations, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    )
