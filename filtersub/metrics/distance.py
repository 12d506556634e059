"""Distances between sets of features: Fréchet (FID's formula) and unbiased kernel (KID's), in float64."""

import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import FiltersubError
from .features import FeatureExtractor
from .images import ImageSet
from .statistics import FeatureStatistics, check_enough, set_statistics


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
    real_images, images : sizes of the sets; of each, at most statistics.KEPT random ones enter the kernel distance
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
    one, two = theirs.whole, ours.whole
    _warn_of_few(min(one.count, two.count), extractor)
    return Comparison(
        features=extractor.name,
        digest=extractor.digest,
        distance_name=extractor.distance_name,
        kernel_name=extractor.kernel_name,
        frechet=frechet_distance(one, two),
        kernel=kernel_distance(one, two),
        floor_frechet=frechet_distance(*theirs.halves),
        floor_kernel=kernel_distance(*theirs.halves),
        floor_images=theirs.halves[0].count,
        real_images=one.count,
        images=two.count,
    )


def frechet_distance(one: FeatureStatistics, two: FeatureStatistics) -> float:
    """``||mu - mu'||^2 + tr(S + S' - 2 (S S')^1/2)`` in float64 (Dowson and Landau, J. Multivariate Anal. 12, 1982).

    Raises FiltersubError where the features have other widths, or the distance is not finite.
    """
    _check_pair(one, two)
    # asked before: LAPACK's eigenvalues of a matrix with NaN or infinities may never return
    product = _finite(one.covariance @ two.covariance, "Fréchet distance")
    root_trace = torch.linalg.eigvals(product).sqrt().real.sum()
    apart = (one.mean - two.mean).square().sum()
    distance = apart + one.covariance.trace() + two.covariance.trace() - 2 * root_trace
    # rounding can leave -1e-12 between equal sets
    return max(0.0, float(_finite(distance, "Fréchet distance")))


def kernel_distance(one: FeatureStatistics, two: FeatureStatistics) -> float:
    """Unbiased squared maximum mean discrepancy of kept features, kernel (x.y / d + 1)^3 (Binkowski et al., 2018).

    Raises FiltersubError where it is not finite.
    """
    _check_pair(one, two)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / one.width + 1) ** 3

    samples = one.sample.double(), two.sample.double()
    within = 0.0
    for sample in samples:
        own, count = kernel(sample, sample), len(sample)
        within += (own.sum() - own.trace()) / (count * (count - 1))  # but for each image with itself
    return float(_finite(within - 2 * kernel(*samples).mean(), "kernel distance"))


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


def _warn_of_few(count: int, extractor: FeatureExtractor) -> None:
    if count <= extractor.width:
        warnings.warn(
            f"{count} images for {extractor.width} features: the covariance is singular, so the "
            f"{extractor.distance_name} is mostly bias of sample size; at best it ranks sets of just this size; for a "
            f"value that means something take more than {extractor.width} images",
            FewImagesWarning,
            stacklevel=3,
        )
