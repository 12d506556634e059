"""A data set by name as what a training loop takes: two torch data sets of (image, label)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ..errors import FiltersubError
from ..settings import MOST_PIXELS, MOST_SEED, check_each, check_number, check_whole
from .digits import digits_at, load_digits, prepared_digits, split_rows
from .examine import remarks, shared_images
from .images import Chosen, Source
from .names import open_source
from .parts import balanced_subset, chosen_parts, no_images, one_class
from .prepared import AugmentedImages, PreparedImages
from .problems import problem, refuse
from .views import check_augmentation, check_judge_crop


@dataclass(frozen=True)
class ImageSplit:
    """Images (3, size, size) float32 with labels, for training and for judging.

    ``judged_on`` says what the second part is: "test", or "validation" where something is still to be chosen (200
    of the 1,000 training images of digits and VTAB-1k; Zhai et al., arXiv:1910.04867). ``duplicates`` names the judged
    images whose content is among the training images too, as ``JUDGED = TRAINED``; empty where images are not decoded
    beforehand. ``oddities`` is what else is odd about the set and hinders nothing, a line each.
    """

    train: Dataset
    judged: Dataset
    judged_on: str
    n_classes: int
    duplicates: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()

    @property
    def duplicates_note(self) -> str:
        """One line on the duplicates; empty where there is none."""
        found = problem("duplicate", self.judged_on, self.duplicates, "images that are among the training images too")
        return found[0].message if found else ""


def load_data(
    name: str,
    *,
    size: int = 64,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
    validation: bool = False,
    split_seed: int = 0,
    n_train: int | None = None,
    hold: bool = True,
    augmentation: str = "none",
    augmentation_seed: int = 0,
    judge_crop: float | None = None,
) -> ImageSplit:
    """A data set by name, resized to ``size`` pixels and normalised by ``mean`` and ``std`` of each channel.

    Parameters
    ----------
    name : a name that `filtersub data list` shows, or ``folder:PATH``, ``csv:PATH``, ``hf:PATH``
    validation : judge on validation images; the test images stay unseen
    split_seed : of the digits' split, of what is held out where a set has no such part, and of ``n_train``
    n_train : train on so many images, every class alike; a smaller number at one seed is part of a larger one
    hold : decode each part of at most 100,000 images now, so that all its broken images are named at once, and keep
        what takes at most 512 MiB; off, images are decoded when they are asked for
    augmentation : of the training images, see AUGMENTATIONS; they are then decoded anew in each epoch
    augmentation_seed : what is drawn for an image depends on it, the epoch and the image's place alone
    judge_crop : share of the enlarged image that is kept in its middle, in (0, 1], for the images that are judged, and
        for those to train on where nothing augments them: 0.875 for 256 pixels cut to 224. None takes what the set's
        description says, which mostly is the whole image squeezed into the square

    Images to judge on are never augmented. Raises FiltersubError for unknown names, sets that are missing or damaged
    (saying how to obtain or to check them) and numbers that do not fit.
    """
    for what, switch in (("validation", validation), ("hold", hold)):
        if not isinstance(switch, bool | np.bool_):
            raise FiltersubError(f"{what} must be true or false, got {switch!r}")
    check_whole("the image size", size, 1, MOST_PIXELS)
    if n_train is not None:
        check_whole("n_train", n_train, 1)
    for what, seed in (("split_seed", split_seed), ("augmentation_seed", augmentation_seed)):
        check_whole(what, seed, 0, MOST_SEED)
    check_each("mean", mean, check_number)
    if len(check_each("std", std, check_number)) != len(mean) or min(std) <= 0:
        raise FiltersubError(f"std must be a positive number for each number of mean, {mean!r}, got {std!r}")
    check_judge_crop(judge_crop)
    check_augmentation(augmentation)
    judged_on = "validation" if validation else "test"
    views = {"name": name, "seed": augmentation_seed}
    if name == "digits":
        pictures, labels = load_digits()
        parts = split_rows(len(labels), split_seed)
        rows, judged_rows = (parts[part] for part in (("search", "validation") if validation else ("train", "test")))
        if n_train is not None:
            rows = rows[torch.from_numpy(balanced_subset(labels[rows].numpy(), n_train, split_seed))]

        def shown(rows: Tensor) -> TensorDataset:
            return TensorDataset(prepared_digits(pictures[rows], size, mean, std, judge_crop), labels[rows])

        if augmentation == "none":
            return ImageSplit(shown(rows), shown(judged_rows), judged_on, n_classes=10)
        drawn = AugmentedImages(digits_at(rows), augmentation, size, mean, std, **views)
        return ImageSplit(drawn, shown(judged_rows), judged_on, n_classes=10)
    source = usable_source(name)
    train, judged = chosen_parts(source, validation, split_seed)
    refuse([*no_images("train", train), *no_images(judged_on, judged)], name)
    if n_train is not None:
        train = Chosen(train, balanced_subset(train.labels, n_train, split_seed))
    crop = source.crop if judge_crop is None else judge_crop
    if augmentation == "none":
        seen: PreparedImages | AugmentedImages = PreparedImages(train, size, mean, std, name=name, crop=crop, hold=hold)
    else:
        seen = AugmentedImages(train, augmentation, size, mean, std, hold=hold, **views)
    prepared = PreparedImages(judged, size, mean, std, name=name, part=judged_on, crop=crop, hold=hold)
    odd = [found for found in source.problems if found.part in ("", "train", judged_on)]
    odd += [*remarks(source, {"train": train, judged_on: judged}), *seen.doubts, *prepared.doubts]
    duplicates: list[str] = []
    if seen.digests is not None and prepared.digests is not None:
        duplicates = shared_images(seen.digests, train.name, prepared.digests, judged.name)
    oddities = tuple(found.message for found in odd)
    return ImageSplit(seen, prepared, judged_on, source.n_classes, tuple(duplicates), oddities)


def usable_source(name: str) -> Source:
    """A data set by name that can be trained on, as far as names and labels tell; no image is decoded.

    Raises FiltersubError as open_source does, and for fatal problems, a single class and a set without training images.
    """
    source = open_source(name)
    refuse([*source.problems, *one_class(source)], name)
    return source


def first_images(data: Dataset, n_images: int) -> tuple[Tensor, Tensor]:
    """(images (n, 3, size, size), labels (n,)) of the first ``n_images`` of a data set, or of all it has.

    Raises FiltersubError unless ``n_images`` is a whole number from 1.
    """
    check_whole("n_images", n_images, 1)
    if isinstance(data, TensorDataset):
        images, labels = data.tensors
        return images[:n_images], labels[:n_images]
    pairs = [data[index] for index in range(min(n_images, len(data)))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
