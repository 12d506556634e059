"""Sums over the features of a set, one batch at a time: what a Fréchet and a kernel distance need, and no more.

Memory is that of d x d sums and a bounded sample of features, whatever the number of images.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import FiltersubError
from ..files import as_path, atomic_write
from ..printable import counted
from ..settings import MOST, MOST_SEED, check_whole
from .features import FeatureExtractor, checked_finite
from .images import ImageSet

KEPT = 2000  # features kept for the kernel distance
FEWEST = 4  # images of a set


class FeatureStatistics:
    """Count, sum and sum of outer products of features (float64), and a uniform sample of at most ``kept`` of them.

    The sample is drawn while streaming (reservoir sampling; Vitter, ACM Trans. Math. Software 11(1), 1985), seeded.
    """

    def __init__(self, width: int, *, kept: int = KEPT, seed: int = 0) -> None:
        check_whole("width", width, 1, MOST)
        check_whole("kept", kept, 1)
        check_whole("seed", seed, 0, MOST_SEED)
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.outer = torch.zeros(width, width, dtype=torch.float64)
        self.sample = torch.zeros(0, width)
        self.kept = kept
        self._random = torch.Generator().manual_seed(seed)

    def update(self, features: Tensor) -> None:
        """Take in features (n, d). FiltersubError where they are not finite, not real numbers or not d wide."""
        if features.ndim != 2 or features.shape[1] != self.width or features.is_complex() or features.is_meta:
            raise FiltersubError(
                f"features must be real numbers of shape (n, {self.width}), got {features.dtype} "
                f"{tuple(features.shape)} on {features.device}"
            )
        wide = checked_finite(features.double(), "features")
        self.total += wide.sum(0)
        self.outer += wide.T @ wide
        self._draw(features.float())
        self.count += len(features)

    @property
    def width(self) -> int:
        return len(self.total)

    @property
    def mean(self) -> Tensor:
        """(d,) float64."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(d, d) float64, divided by n - 1."""
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)

    def _draw(self, features: Tensor) -> None:
        free = max(0, self.kept - len(self.sample))
        self.sample = torch.cat([self.sample, features[:free]])
        for place, feature in enumerate(features[free:], start=self.count + free):
            slot = int(torch.randint(place + 1, (1,), generator=self._random))
            if slot < self.kept:
                self.sample[slot] = feature


@dataclass(frozen=True)
class SetStatistics:
    """A set's statistics: of all its images, and of two halves of it, whose distance is the floor of the set."""

    whole: FeatureStatistics
    halves: tuple[FeatureStatistics, FeatureStatistics]


def check_enough(images: ImageSet) -> None:
    """Raises FiltersubError when a set is too small for a distance and its floor: two images in each half."""
    if len(images) < FEWEST:
        found = counted(len(images), "image")
        raise FiltersubError(f"{images.source} gives {found} to compare; a distance needs at least {FEWEST}")


def set_statistics(
    images: ImageSet,
    extractor: FeatureExtractor,
    *,
    batch_size: int = 50,
    cache: str | os.PathLike[str] | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> SetStatistics:
    """Features of a set, streamed.

    The halves are disjoint and random (seed 0). With ``cache``, a folder, the statistics are written there and read
    back as long as extractor, weights and images are the same. ``on_image`` is called with (images done, in all).
    """
    check_enough(images)
    check_whole("batch_size", batch_size, 1, MOST)
    name = f"{extractor.name}-{extractor.digest}-{images.digest()}.safetensors"
    file = None if cache is None else as_path(cache) / name
    if file is not None and file.exists():
        return read_statistics(file)
    whole, *halves = (FeatureStatistics(extractor.width) for _ in range(3))
    first = torch.zeros(len(images), dtype=torch.bool)
    first[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: len(images) // 2]] = True
    for batch in images.batches(batch_size):
        features, chosen = extractor(batch), first[whole.count : whole.count + len(batch)]
        whole.update(features)
        halves[0].update(features[chosen])
        halves[1].update(features[~chosen])
        if on_image is not None:
            on_image(whole.count, len(images))
    found = SetStatistics(whole, (halves[0], halves[1]))
    if file is not None:
        write_statistics(file, found)
    return found


def write_statistics(path: str | os.PathLike[str], statistics: SetStatistics) -> None:
    """As safetensors: total, outer, sample of the whole and of each half; the counts in the metadata."""
    parts = {"whole": statistics.whole, "first": statistics.halves[0], "second": statistics.halves[1]}
    tensors = {f"{n}.{k}": getattr(part, k) for n, part in parts.items() for k in ("total", "outer", "sample")}
    counts = {name: part.count for name, part in parts.items()}
    with atomic_write(path) as aside:
        save_file(tensors, aside, metadata={"counts": json.dumps(counts)})


def read_statistics(path: str | os.PathLike[str]) -> SetStatistics:
    """Statistics written before. Raises FiltersubError when the file is damaged."""
    path = as_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            counts = json.loads(file.metadata()["counts"])
            parts = [_part(file, name, int(counts[name])) for name in ("whole", "first", "second")]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FiltersubError(f"{path} holds no statistics of features ({error}); remove it to make them anew") from None
    return SetStatistics(parts[0], (parts[1], parts[2]))


def _part(file: safe_open, name: str, count: int) -> FeatureStatistics:
    total = file.get_tensor(f"{name}.total")
    part = FeatureStatistics(len(total))
    part.count, part.total = count, total
    part.outer, part.sample = file.get_tensor(f"{name}.outer"), file.get_tensor(f"{name}.sample")
    for values in (part.total, part.outer, part.sample):
        checked_finite(values, f"statistics of the {name}")
    return part
