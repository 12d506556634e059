"""Which images take part: the parts of a set by the names that people give them, held-out fifths, and balanced subsets
that lie inside one another.
"""

from collections.abc import Iterable

import numpy as np

from ..errors import FiltersubError
from .images import Chosen, Images, Source
from .problems import Problem

#: The usual names of each part: those of ``datasets.data_files.SPLIT_KEYWORDS``.
PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_PART = {name: part for part, names in PART_NAMES.items() for name in names}
_SHARE = 5  # one image of so many is held out, as VTAB-1k's 200 of 1,000


def part_of(name: str) -> str | None:
    """ "train", "validation" or "test" for one of its usual names, else None.

    >>> part_of("Training"), part_of("val"), part_of("cats")
    ('train', 'validation', None)
    """
    return _PART.get(name.strip().lower())


def by_part(names: Iterable[str], where: object) -> dict[str, str]:
    """The name that stands for each part, in the order train, validation, test; other names are left out.

    Raises FiltersubError where two names stand for one part: one of them would go unread.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        part = part_of(name)
        if part in found:
            raise FiltersubError(
                f"{where} has both {found[part]!r} and {name!r}, two names of its {part} part; rename or remove one"
            )
        if part is not None:
            found[part] = name
    return {part: found[part] for part in PART_NAMES if part in found}


def chosen_parts(source: Source, validation: bool, split_seed: int) -> tuple[Images, Images]:
    """(training images, images to judge on) of a set: its own, or a held-out fifth of each class where it has none.

    ``validation`` leaves the test images alone and judges on validation images.
    """
    train, test = source.train, source.test
    if test is None:
        train, test = _held_out(train, split_seed)
    if not validation:
        return train, test
    if source.validation is not None and source.search is not None:
        if source.test is None:  # its own validation images are untouched, its own test images do not exist
            return train, source.validation
        return source.search, source.validation
    return _held_out(train, split_seed + 1)


def one_class(source: Source) -> list[Problem]:
    """The problem of a set with a single class; nothing where it has more."""
    if source.n_classes > 1:
        return []
    which = f" ({source.classes[0]})" if source.classes else ""
    return [Problem("one class", "", 1, f"a single class{which}, so that there is nothing to tell apart")]


def no_images(part: str, images: Images) -> list[Problem]:
    """The problem of a part without images, be it held out; nothing where it has some."""
    if len(images.labels):
        return []
    return [Problem("no images", part, 1, f"no {part} images; where a fifth is held out, each class needs two or more")]


def _held_out(images: Images, seed: int) -> tuple[Images, Images]:
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(images.labels))
    ranks, counts = _ranks(images.labels[order]), np.bincount(images.labels)
    wanted = np.where(counts > 1, np.maximum(counts // _SHARE, 1), 0)  # a class of a single image trains
    held = ranks < wanted[images.labels[order]]
    return Chosen(images, np.sort(order[~held])), Chosen(images, np.sort(order[held]))


def balanced_subset(labels: np.ndarray, n_images: int, seed: int) -> np.ndarray:
    """Positions, ascending, of ``n_images`` images with every class as often as the others, as far as there are enough.

    Of two sizes at one seed the smaller subset is part of the larger one. Raises FiltersubError when there are fewer
    images, or fewer wanted than classes.

    >>> balanced_subset(np.array([0, 0, 0, 1, 1, 1]), 2, seed=0).tolist()
    [2, 3]
    """
    present = len(np.unique(labels))
    if n_images > len(labels):
        raise FiltersubError(f"n_train is {n_images}, but there are {len(labels)} training images")
    if n_images < present:
        raise FiltersubError(f"n_train is {n_images}, but there are {present} classes, and each needs an image")
    if n_images == len(labels):
        return np.arange(len(labels))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    by_rank = order[np.argsort(_ranks(labels[order]), kind="stable")]  # the first of every class, then the second, ...
    return np.sort(by_rank[:n_images])


def _ranks(labels: np.ndarray) -> np.ndarray:
    """How many earlier entries carry the same label, for each entry."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - starts
    return ranks
