"""scikit-learn's digits, split in the VTAB-1k manner: 1,000 train (800 + 200 where something is chosen), 797 test."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .images import PixelImages, Source

N_TRAIN, N_SEARCH = 1000, 800


def digits_order(n_images: int, split_seed: int) -> Tensor:
    """The fixed order of images: the first 1,000 train (800 + 200), the rest test. PCG64, the same on every machine."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(split_seed)).permutation(n_images))


@cache
def load_digits() -> tuple[Tensor, Tensor]:
    """(1797, 8, 8) grey images in 0..1 and their labels, not to be changed: read once a process, for the file is text
    and one run of ``tune`` asks for it eight times."""
    from sklearn.datasets import load_digits as load

    found = load()
    return torch.from_numpy(found.images).float() / 16.0, torch.from_numpy(found.target).long()


def prepared_digits(
    images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...], crop: float | None = None
) -> Tensor:
    """Grey images (n, 8, 8) enlarged bilinearly, repeated on each channel, normalised: (n, channels, size, size).

    With ``crop`` they are enlarged to size / crop, and the middle is cut out.
    """
    side = size if crop is None else max(size, round(size / crop))
    enlarged = interpolate(images[:, None], size=(side, side), mode="bilinear", align_corners=False)
    first = (side - size) // 2
    enlarged = enlarged[..., first : first + size, first : first + size]
    centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (enlarged.expand(-1, len(mean), -1, -1) - centre) / spread


def digits_at(rows: Tensor, what: str = "train") -> PixelImages:
    """These digits as pixels, 8 x 8 RGB."""
    images, labels = load_digits()
    pixels = (images[rows] * 255).round().byte()[..., None].expand(-1, -1, -1, 3).numpy()
    return PixelImages(what, pixels, labels[rows].numpy())


def split_rows(n_images: int, split_seed: int = 0) -> dict[str, Tensor]:
    """Which images are of each part of a Source, by the digits' fixed order."""
    order = digits_order(n_images, split_seed)
    parts = {"train": order[:N_TRAIN], "test": order[N_TRAIN:], "search": order[:N_SEARCH]}
    return {**parts, "validation": order[N_SEARCH:N_TRAIN]}


def open_digits() -> Source:
    """The digits as pixels, for whoever looks at them one by one."""
    parts = split_rows(len(load_digits()[1]))
    return Source(10, **{part: digits_at(rows, part) for part, rows in parts.items()})
