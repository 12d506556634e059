"""A data set looked at image by image: what is there, what is missing, broken, doubled or wrongly labelled."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import FiltersubError
from .catalogue import folder_of
from .examine import Examined, doubts, examined, remarks, repeated_images, shared_images
from .images import Images
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


def check_data(name: str, *, on_image: OnImage | None = None) -> Report:
    """Open every list, decode every image, and report all that is wrong; nothing is written or fetched.

    ``on_image`` is called with (images done, images in all, name). Raises FiltersubError for unknown names alone.
    """
    began = time.perf_counter()
    known = described(name)
    where = str(folder_of(known) or "memory") if known else str(path_of(name)[0])
    try:
        source = open_source(name)
    except FiltersubError as error:
        there = not isinstance(error, DataMissing)
        fault = Problem("unreadable" if there else "missing", "", 1, str(error))
        return Report(name, where, there, False, 0, {}, (fault,), time.perf_counter() - began)
    parts: dict[str, Images] = {}
    for part in ("train", "search", "validation", "test"):
        images = getattr(source, part)
        if images is not None and not any(images is other for other in parts.values()):
            parts[part] = images
    counts = {part: len(images.labels) for part, images in parts.items()}
    problems = [*source.problems, *one_class(source)]
    if known is not None:  # archives are often incomplete
        expected = {"train": known.train, "validation": known.validation, "test": known.test}
        expected["search"] = known.train - known.validation
        for part, own in counts.items():
            if own != expected[part] and (part in ("train", "test") or known.validation):
                words = f"{part}: {own:,} images where the set has {expected[part]:,}"
                problems.append(Problem("count", part, abs(expected[part] - own), words))
    if not any(found.fatal for found in problems):
        problems += no_images("test", chosen_parts(source, False, 0)[1])
    problems += remarks(source, parts)
    sums: dict[str, list[bytes | None]] = {}
    for part, images in parts.items():
        seen: list[Examined] = []
        for found in examined(images):
            seen.append(found)
            if on_image is not None:
                on_image(sum(map(len, sums.values())) + len(seen), sum(counts.values()), part)
        broken = [f"{each.name} ({each.fault})" for each in seen if each.fault]
        problems += problem("broken image", part, broken, "images that cannot be decoded")
        problems += doubts(seen, images.labels, part)
        sums[part] = [each.digest for each in seen]
    # images that train and are judged on as well flatter what is reported; VTAB-1k's 1,000 are its 800 and its 200
    for trained, judged in (("train", "test"), ("search" if "search" in parts else "train", "validation")):
        if judged in parts:
            names = shared_images(sums[trained], parts[trained].name, sums[judged], parts[judged].name)
            words = f"images that are among the {trained} images too"
            problems += problem("duplicate", judged, names, words, fatal=False)
    if source.test is None or source.validation is None:
        # a fifth is held out by our own split, so an image that is there twice may train and be judged on
        held = "test" if source.test is None else "validation"
        names = repeated_images(sums["train"], parts["train"].name)
        words = f"images that repeat another one; the {held} images held out of them may repeat training images"
        problems += problem("duplicate", "train", names, words, fatal=False)
    complete = not any(found.fatal for found in problems)
    seconds = time.perf_counter() - began
    return Report(name, where, True, complete, source.n_classes, counts, tuple(problems), seconds)
