"""Mixup and cutmix of a batch, by torchvision."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from ..random_states import seeded


class Mixing:
    """Images (n, c, h, w) and labels (n,) to mixed images and targets (n, n_classes), one share for the whole batch.

    Parameters
    ----------
    mixup, cutmix : alphas of their Beta distributions, at least one above 0; of both, each batch takes one
    seed : what is drawn depends on it and on the numbers that a call adds
    """

    def __init__(self, mixup: float, cutmix: float, n_classes: int, seed: int) -> None:
        kinds = [
            kind(alpha=alpha, num_classes=n_classes)
            for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
            if alpha > 0
        ]
        self.mix, self.seed = v2.RandomChoice(kinds), seed

    def __call__(self, images: Tensor, labels: Tensor, *numbers: int) -> tuple[Tensor, Tensor]:
        with seeded(self.seed, *numbers):
            return self.mix(images, labels)
