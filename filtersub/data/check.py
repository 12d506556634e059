"""A data set looked at image by image: what is there, what is missing, broken, doubled or wrongly labelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import FiltersubError
from .catalogue import Description, folder_of
from .examine import Examined, doubts, examined, remarks, repeated_images, shared_images
from .images import Images, Source
from .names import described, open_source, path_of
from .parts import chosen_parts, no_images, one_class
from .problems import DataMissing, Problem, problem

OnImage = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Report:
    """What check_data found.

    Attributes
    ----------
    name, where : the set, and the folder or file looked at
    there : whether there is anything
    complete : whether it can be trained on as it is; duplicates and empty classes alone do not hinder that
    classes : int, 0 where nothing is there
    images : by part, how many can be used by their names and labels
    problems : what is wrong
    seconds : of looking
    """

    name: str
    where: str
    there: bool
    complete: bool
    classes: int
    images: dict[str, int]
    problems: tuple[Problem, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_data(name: str, *, on_image: OnImage | None = None) -> Report:
    """Open every list, decode every image, and report all that is wrong; nothing is written or fetched.

    ``on_image`` is called with (images done, images in all, name). Raises FiltersubError for unknown names alone.
    """
    began = time.perf_counter()
    known = described(name)
    where = str(folder_of(known) or "memory") if known else str(path_of(name)[0])
    try:
        source = open_source(name)
    except DataMissing as error:
        return _report(name, where, False, 0, {}, [Problem("missing", "", 1, str(error))], began)
    except FiltersubError as error:
        return _report(name, where, True, 0, {}, [Problem("unreadable", "", 1, str(error))], began)
    parts = _parts(source)
    problems = [*source.problems, *one_class(source), *_counts(parts, known)]
    if not any(found.fatal for found in problems):
        problems += no_images("test", chosen_parts(source, False, 0)[1])
    problems += remarks(source, parts)
    seen = _examined(parts, on_image)
    for part, images in parts.items():
        broken = [f"{each.name} ({each.fault})" for each in seen[part] if each.fault]
        problems += problem("broken image", part, broken, "images that cannot be decoded")
        problems += doubts(seen[part], images.labels, part)
    sums = {part: [each.digest for each in found] for part, found in seen.items()}
    problems += _duplicates(parts, sums) + _repeated(source, parts, sums)
    images = {part: len(found.labels) for part, found in parts.items()}
    return _report(name, where, True, source.n_classes, images, problems, began)


def _report(
    name: str, where: str, there: bool, classes: int, images: dict[str, int], problems: list[Problem], began: float
) -> Report:
    complete = there and not any(found.fatal for found in problems)
    return Report(name, where, there, complete, classes, images, tuple(problems), time.perf_counter() - began)


def _parts(source: Source) -> dict[str, Images]:
    named = {part: getattr(source, part) for part in ("train", "search", "validation", "test")}
    unique: dict[str, Images] = {}
    for part, images in named.items():
        if images is not None and not any(images is other for other in unique.values()):
            unique[part] = images
    return unique


def _counts(parts: dict[str, Images], known: Description | None) -> list[Problem]:
    """Archives are often incomplete: as many images as the set is known to have."""
    if known is None:
        return []
    expected = {"train": known.train, "validation": known.validation, "test": known.test}
    expected["search"] = known.train - known.validation
    found = []
    for part, images in parts.items():
        wanted, own = expected[part], len(images.labels)
        if own != wanted and (part in ("train", "test") or known.validation):
            found.append(
                Problem("count", part, abs(wanted - own), f"{part}: {own:,} images where the set has {wanted:,}")
            )
    return found


def _examined(parts: dict[str, Images], on_image: OnImage | None) -> dict[str, list[Examined]]:
    """By part, what each of its images shows."""
    total, done = sum(len(images.labels) for images in parts.values()), 0
    seen: dict[str, list[Examined]] = {part: [] for part in parts}
    for part, images in parts.items():
        for found in examined(images):
            seen[part].append(found)
            done += 1
            if on_image is not None:
                on_image(done, total, part)
    return seen


def _duplicates(parts: dict[str, Images], sums: dict[str, list[bytes | None]]) -> list[Problem]:
    """Images that train and are judged on as well, pixel by pixel: they flatter what is reported."""
    found = []
    for trained, judged in (("train", "test"), ("search", "validation"), ("train", "validation")):
        if trained not in parts or judged not in parts:
            continue
        if (trained, judged) == ("train", "validation") and "search" in parts:
            continue  # VTAB-1k's 1,000 are its 800 and its 200
        names = shared_images(sums[trained], parts[trained].name, sums[judged], parts[judged].name)
        found += problem("duplicate", judged, names, f"images that are among the {trained} images too", fatal=False)
    return found


def _repeated(source: Source, parts: dict[str, Images], sums: dict[str, list[bytes | None]]) -> list[Problem]:
    """Where a fifth is held out by our own split, an image that is there twice may train and be judged on."""
    if source.test is not None and source.validation is not None:
        return []
    held = "test" if source.test is None else "validation"
    names = repeated_images(sums["train"], parts["train"].name)
    words = f"images that repeat another one; the {held} images held out of them may repeat training images"
    return problem("duplicate", "train", names, words, fatal=False)
