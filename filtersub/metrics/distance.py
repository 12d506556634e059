"""Distances between sets of features: Fréchet (FID's formula) and unbiased kernel (KID's), by torchmetrics.

Of each set sums over its features are kept, one batch at a time: memory is that of d x d sums and a bounded sample of
features, whatever the number of images.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import atomic_write
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
        found = f"{len(images)} image" + "s" * (len(images) != 1)
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
    file = None if cache is None else Path(cache) / f"{extractor.name}-{extractor.digest}-{images.digest()}.safetensors"
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


class FewImagesWarning(UserWarning):
    """A distance of fewer images than features: its covariances are singular."""


@dataclass(frozen=True)
class Comparison:
    """How far a set of images is from a real one.

    Attributes
    ----------
    features, digest : of the extractor; distance_name, kernel_name : what the two numbers are called
    frechet : ||mu - mu'||^2 + tr(S + S' - 2 (S S')^1/2), squared units of the features; biased upwards, about as 1 / n
    kernel : squared maximum mean discrepancy, kernel (x.y / d + 1)^3, unbiased, so it may be below zero
    floor_frechet, floor_kernel : the same between two random halves of the real set; ``floor_images`` in each
    real_images, images : sizes of the sets; of each, at most KEPT random ones enter the kernel distance
    """

    features: str
    digest: str
    distance_name: str
    kernel_name: str
    frechet: float
    kernel: float
    floor_frechet: float
    floor_kernel: float
    floor_images: int
    real_images: int
    images: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The numbers with what they can bear."""
        return (
            f"{self.distance_name} {self.frechet:.4g} ({self.images:,} images against {self.real_images:,} real ones; "
            f"two halves of the real set, {self.floor_images:,} images each, are {self.floor_frechet:.4g} apart). "
            f"The {self.kernel_name}, which has no bias of sample size, is {self.kernel:.4g} "
            f"(halves of the real set: {self.floor_kernel:.4g}). The Fréchet distance shrinks as sets grow, about as "
            "one over their size: only numbers of equal sizes compare."
        )


def compare(
    real: ImageSet,
    images: ImageSet,
    extractor: FeatureExtractor,
    *,
    batch_size: int = 50,
    cache: str | os.PathLike[str] | None = None,
    on_image: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Distance of ``images`` from ``real`` in the features of ``extractor``, streamed.

    Parameters
    ----------
    cache : folder where the statistics of the real set are kept and read again
    on_image : called with (name of the set, images done, images in all)

    Warns FewImagesWarning when a set has no more images than there are features. Raises FiltersubError on sets of fewer
    than 4 images, and on images of mixed sizes or modes.
    """
    for each in (real, images):
        check_enough(each)
    tell = on_image or (lambda name, done, total: None)
    theirs = set_statistics(real, extractor, batch_size=batch_size, cache=cache, on_image=partial(tell, real.source))
    ours = set_statistics(images, extractor, batch_size=batch_size, on_image=partial(tell, images.source))
    return compare_statistics(theirs, ours, extractor)


def compare_statistics(real: SetStatistics, other: SetStatistics, extractor: FeatureExtractor) -> Comparison:
    """The same from statistics."""
    one, two = real.whole, other.whole
    _warn_of_few(min(one.count, two.count), extractor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewImagesWarning)
        floor = frechet_distance(*real.halves)
    return Comparison(
        features=extractor.name,
        digest=extractor.digest,
        distance_name=extractor.distance_name,
        kernel_name=extractor.kernel_name,
        frechet=frechet_distance(one, two),
        kernel=kernel_distance(one, two),
        floor_frechet=floor,
        floor_kernel=kernel_distance(*real.halves),
        floor_images=real.halves[0].count,
        real_images=one.count,
        images=two.count,
    )


def frechet_distance(one: FeatureStatistics, two: FeatureStatistics) -> float:
    """``||mu - mu'||^2 + tr(S + S' - 2 (S S')^1/2)`` in float64 (Dowson and Landau, J. Multivariate Anal. 12, 1982).

    Raises FiltersubError where the features have other widths, or the distance is not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _check_pair(one, two)
    # asked before: LAPACK's eigenvalues of a matrix with NaN or infinities may never return
    _finite(one.covariance @ two.covariance, "Fréchet distance")
    metric = FrechetInceptionDistance(feature=_Given(one.width), normalize=True)
    metric.set_dtype(torch.float64)
    for name, part in (("real", one), ("fake", two)):
        setattr(metric, f"{name}_features_sum", part.total)
        setattr(metric, f"{name}_features_cov_sum", part.outer)
        setattr(metric, f"{name}_features_num_samples", torch.tensor(part.count))
    metric.orig_dtype = torch.float64  # what the features of the last update were
    metric._update_count = 1
    # rounding can leave -1e-12 between equal sets
    return max(0.0, float(_finite(metric.compute(), "Fréchet distance")))


def kernel_distance(one: FeatureStatistics, two: FeatureStatistics) -> float:
    """Unbiased squared maximum mean discrepancy of kept features, kernel (x.y / d + 1)^3 (Binkowski et al., 2018).

    Raises FiltersubError where it is not finite.
    """
    from torchmetrics.image.kid import poly_kernel

    _check_pair(one, two)
    first, second = one.sample.double(), two.sample.double()
    within = sum(_off_diagonal_mean(poly_kernel(sample, sample)) for sample in (first, second))
    return float(_finite(within - 2 * poly_kernel(first, second).mean(), "kernel distance"))


def _check_pair(one: FeatureStatistics, two: FeatureStatistics) -> None:
    if one.width != two.width:
        raise FiltersubError(f"features of {one.width} and of {two.width} numbers do not compare")
    if min(one.count, two.count) < 2:
        raise FiltersubError(f"a distance needs two images of each set at least, got {one.count} and {two.count}")


def _finite(values: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise FiltersubError(
            f"there is no {what}: features are NaN, infinite or too large to be squared; look at the extractor"
        )
    return values


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


class _Given(nn.Module):
    """An extractor for torchmetrics whose "images" are features already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def _warn_of_few(count: int, extractor: FeatureExtractor) -> None:
    if count <= extractor.width:
        warnings.warn(
            f"{count} images for {extractor.width} features: the covariance is singular, so the "
            f"{extractor.distance_name} is mostly bias of sample size; at best it ranks sets of just this size; for a "
            f"value that means something take more than {extractor.width} images",
            FewImagesWarning,
            stacklevel=3,
        )
