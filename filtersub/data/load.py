"""A data set by name as what a training loop takes: two torch data sets of (image, label)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ..errors import FiltersubError
from .choose import balanced_subset, chosen_parts
from .digits import N_SEARCH, N_TRAIN, digits_order, load_digits, prepared_digits
from .duplicates import shared_images
from .images import Chosen
from .names import described, open_source, path_of
from .prepared import PreparedImages
from .problems import problem, refuse


@dataclass(frozen=True)
class ImageSplit:
    """Images (3, size, size) float32 with labels, for training and for judging.

    ``judged_on`` says what the second part is: "test", or "validation" where something is still to be chosen (200
    of the 1,000 training images of digits and VTAB-1k; Zhai et al., arXiv:1910.04867). ``duplicates`` names the judged
    images whose content is among the training images too, as ``JUDGED = TRAINED``; empty where images are not decoded
    beforehand.
    """

    train: Dataset
    judged: Dataset
    judged_on: str
    n_classes: int
    duplicates: tuple[str, ...] = ()

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

    No augmentation: the paper names none. Raises FiltersubError for unknown names, sets that are missing or damaged
    (saying how to obtain or to check them) and numbers that do not fit.
    """
    if size < 1:
        raise FiltersubError(f"the image size must be positive, got {size}")
    if n_train is not None and n_train < 1:
        raise FiltersubError(f"n_train must be positive, got {n_train}")
    judged_on = "validation" if validation else "test"
    if name == "digits":
        return _digits_split(size, mean, std, validation, split_seed, n_train, judged_on)
    source = open_source(name)
    refuse(source.problems, name)
    if source.n_classes < 2:
        raise FiltersubError(f"{name} has a single class, and there is nothing to tell apart")
    train, judged = chosen_parts(source, validation, split_seed)
    for part, images in (("training", train), (judged_on, judged)):
        if not len(images.labels):
            raise FiltersubError(f"{name} has no {part} images")
    if n_train is not None:
        train = Chosen(train, balanced_subset(train.labels, n_train, split_seed))
    prepared = {
        part: PreparedImages(images, size, mean, std, name=name, part=part, crop=source.crop, hold=hold)
        for part, images in (("train", train), (judged_on, judged))
    }
    return ImageSplit(
        prepared["train"], prepared[judged_on], judged_on, source.n_classes, _duplicates(*prepared.values())
    )


def n_classes(name: str) -> int:
    """Classes of a data set by name, before any image is loaded. Raises FiltersubError for names that say nothing."""
    known = described(name)
    if known is not None:
        return known.classes
    if name.startswith("folder:") and path_of(name)[0].is_dir():
        from .folders import count_classes

        return count_classes(path_of(name)[0])
    return open_source(name).n_classes


def first_images(data: Dataset, n_images: int) -> tuple[Tensor, Tensor]:
    """(images (n, 3, size, size), labels (n,)) of the first ``n_images`` of a data set, or of all it has."""
    if isinstance(data, TensorDataset):
        images, labels = data.tensors
        return images[:n_images], labels[:n_images]
    pairs = [data[index] for index in range(min(n_images, len(data)))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def _duplicates(train: PreparedImages, judged: PreparedImages) -> tuple[str, ...]:
    if train.digests is None or judged.digests is None:
        return ()
    return tuple(shared_images(train.digests, train.images.name, judged.digests, judged.images.name))


def _digits_split(
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    validation: bool,
    split_seed: int,
    n_train: int | None,
    judged_on: str,
) -> ImageSplit:
    images, labels = load_digits()
    order = digits_order(len(labels), split_seed)
    if validation:
        train, judged = order[:N_SEARCH], order[N_SEARCH:N_TRAIN]
    else:
        train, judged = order[:N_TRAIN], order[N_TRAIN:]
    if n_train is not None:
        train = train[torch.from_numpy(balanced_subset(labels[train].numpy(), n_train, split_seed))]
    parts = [TensorDataset(prepared_digits(images[rows], size, mean, std), labels[rows]) for rows in (train, judged)]
    return ImageSplit(*parts, judged_on, n_classes=10)
