"""Training images drawn anew each epoch: transforms of torchvision and timm by name, seeded by image and epoch."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..random_states import seeded
from .images import Images
from .prepared import looked_at, opened
from .views import check_augmentation


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


def _transform(
    name: str, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Image.Image], Tensor]:
    check_augmentation(name)
    if name == "timm":
        from timm.data import create_transform

        return create_transform(
            size,
            is_training=True,
            auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="random",
            re_prob=0.25,
            re_mode="pixel",
            mean=mean,
            std=std,
        )
    import torch
    from torchvision.transforms import v2

    operations = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    if name == "randaugment":
        operations.append(v2.RandAugment())
    return v2.Compose(
        [*operations, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    )
