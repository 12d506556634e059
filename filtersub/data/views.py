"""How images may be shown to a network, by name and number, checked: no image and no torch is needed for that."""

from ..errors import FiltersubError, check_name
from ..settings import check_number

#: name -> what it does; each ends with images of the wanted size, normalised
AUGMENTATIONS = {
    "none": "nothing: every epoch sees the same images",
    "crop-flip": "random resized crop and horizontal flip, of torchvision",
    "randaugment": "crop-flip, then two operations of RandAugment at magnitude 9, of torchvision",
    "timm": "timm's create_transform: crop-flip with a random interpolation, RandAugment m9-mstd0.5-inc1, random "
    "erasing at 0.25",
}


def check_augmentation(name: str) -> None:
    """Raises FiltersubError for unknown names."""
    check_name("augmentation", name, AUGMENTATIONS)


def check_judge_crop(share: float | None) -> None:
    """Raises FiltersubError where it is no share of an image."""
    if share is None:
        return
    check_number("judge_crop", share)
    if not 0 < share <= 1:
        raise FiltersubError(
            f"judge_crop is the share of the image kept in its middle, above 0 and at most 1, got {share}"
        )
