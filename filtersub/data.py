"""Data sets by name, each with its split by seed, as tensors normalised the way the model expects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import TensorDataset

from .errors import FiltersubError

DATASETS: dict[str, str] = {
    "digits": "scikit-learn's 1,797 hand-written digits (8 x 8 grey), 10 classes; 1,000 train (800 + 200), 797 test",
}
_CLASSES = {"digits": 10}
_TRAIN, _SEARCH_TRAIN = 1000, 800


@dataclass(frozen=True)
class ImageSplit:
    """Images (n, 3, size, size) float32 and labels (n,) int64 for training and for judging.

    ``judged_on`` says what the second part is: "test" (797 images), or "validation" (200 of the 1,000) where
    something is still to be chosen, as VTAB-1k does (Zhai et al., arXiv:1910.04867).
    """

    train: TensorDataset
    judged: TensorDataset
    judged_on: str
    n_classes: int


def load_data(
    name: str,
    *,
    size: int = 64,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
    validation: bool = False,
    split_seed: int = 0,
) -> ImageSplit:
    """A data set by name, enlarged to ``size`` pixels and normalised by ``mean`` and ``std`` of each channel.

    ``validation`` trains on 800 and judges on the other 200 of the 1,000 training images; the test images stay unseen.
    Raises FiltersubError for unknown names and sizes that are not positive.
    """
    classes = n_classes(name)
    if size < 1:
        raise FiltersubError(f"the image size must be positive, got {size}")
    images, labels = _digits()
    order = digits_order(len(labels), split_seed)
    if validation:
        parts = order[:_SEARCH_TRAIN], order[_SEARCH_TRAIN:_TRAIN]
    else:
        parts = order[:_TRAIN], order[_TRAIN:]
    train, judged = (TensorDataset(_prepared(images[part], size, mean, std), labels[part]) for part in parts)
    return ImageSplit(train, judged, "validation" if validation else "test", classes)


def n_classes(name: str) -> int:
    """Classes of a data set by name, known before any image is loaded. Raises FiltersubError for unknown names."""
    if name not in DATASETS:
        raise FiltersubError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return _CLASSES[name]


def digits_order(n_images: int, split_seed: int) -> Tensor:
    """The fixed order of images: the first 1,000 train (800 + 200), the rest test. PCG64, the same on every machine."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(split_seed)).permutation(n_images))


def _digits() -> tuple[Tensor, Tensor]:
    """(1797, 8, 8) grey images in 0..1 and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.from_numpy(found.images).float() / 16.0, torch.from_numpy(found.target).long()


def _prepared(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    enlarged = interpolate(images[:, None], size=(size, size), mode="bilinear", align_corners=False)
    centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (enlarged.expand(-1, len(mean), -1, -1) - centre) / spread
