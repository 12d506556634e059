"""Real photographs that come with scikit-learn and matplotlib: crops of them are images that need no download."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .errors import check_name
from .image_reading import read_image
from .settings import check_whole

#: Name -> what it shows; where it comes from decides who may show it, see each package's own licence file.
PHOTOGRAPHS = {
    "china": "a palace in Beijing (scikit-learn)",
    "flower": "a dahlia (scikit-learn)",
    "grace_hopper": "a portrait of an officer in uniform (matplotlib)",
}
_SMALLEST_CROP = 0.35  # of the shorter side


def load_photograph(name: str) -> Tensor:
    """A photograph as (3, height, width) float32 in 0..1. Raises FiltersubError for unknown names."""
    check_name("photograph", name, PHOTOGRAPHS)
    if name == "grace_hopper":
        from matplotlib import get_data_path

        folder = Path(get_data_path()) / "sample_data"
    else:
        from sklearn.datasets import images

        folder = Path(images.__path__[0])
    return torch.from_numpy(np.array(read_image(folder / f"{name}.jpg"))).permute(2, 0, 1).float() / 255


def centre_crops(
    size: int = 224, *, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)
) -> Tensor:
    """The middle square of each photograph, (3, 3, size, size), normalised by ``mean`` and ``std`` of each channel."""
    squares = []
    for name in PHOTOGRAPHS:
        photograph = load_photograph(name)
        side = min(photograph.shape[1:])
        top, left = ((length - side) // 2 for length in photograph.shape[1:])
        squares.append(_resized(photograph[:, top : top + side, left : left + side], size))
    return _normalised(torch.stack(squares), mean, std)


def photograph_batches(
    n_images: int = 64,
    *,
    size: int = 224,
    batch_size: int = 16,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
    seed: int = 0,
) -> Iterator[Tensor]:
    """Batches (batch_size, 3, size, size) of random square crops of the photographs, in turn, half of them mirrored.

    Crops of one photograph overlap, so they are fewer independent images than their number says. The same seed gives
    the same crops. Raises FiltersubError unless ``n_images``, ``size`` and ``batch_size`` are positive.
    """
    for what, value in (("n_images", n_images), ("size", size), ("batch_size", batch_size)):
        check_whole(what, value, 1)
    random = np.random.default_rng(seed)

    def batches() -> Iterator[Tensor]:
        photographs = [load_photograph(name) for name in PHOTOGRAPHS]
        for first in range(0, n_images, batch_size):
            numbers = range(first, min(first + batch_size, n_images))
            crops = [_random_crop(photographs[number % len(photographs)], size, random) for number in numbers]
            yield _normalised(torch.stack(crops), mean, std)

    return batches()


def _random_crop(photograph: Tensor, size: int, random: np.random.Generator) -> Tensor:
    height, width = photograph.shape[1:]
    side = int(min(height, width) * random.uniform(_SMALLEST_CROP, 1.0))
    top, left = (int(random.integers(length - side + 1)) for length in (height, width))
    crop = _resized(photograph[:, top : top + side, left : left + side], size)
    return crop.flip(2) if random.random() < 0.5 else crop


def _resized(square: Tensor, size: int) -> Tensor:
    return interpolate(square[None], size=(size, size), mode="bicubic", antialias=True)[0].clamp(0, 1)


def _normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (images - centre) / spread
