"""Images that a package of an index ships with one list of labels, split as the digits are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from ..errors import FiltersubError
from .digits import split_rows
from .images import FileImages, Source
from .paths import fenced_images
from .problems import Problem

Rows = list[tuple[str, int]]


def open_elpv(folder: Path) -> Source:
    """Photographs of solar cells (elpv-dataset): functional, or defective where its probability is above one half."""
    rows = []
    for number, line in enumerate(_text(folder / "labels.csv").splitlines(), 1):
        words = line.split()
        try:
            path, probability = words[0], float(words[1])
        except (IndexError, ValueError):
            path, probability = "", math.nan
        if not 0 <= probability <= 1:
            raise FiltersubError(f"{folder / 'labels.csv'}, line {number}: expected PATH PROBABILITY KIND")
        rows.append((path, int(probability > 0.5)))
    return _split(folder, rows, ("functional", "defective"))


def open_emoji(folder: Path) -> Source:
    """Drawings of emoji (emoji-datasource-google), 64 x 64 colour, by the group that Unicode puts them into."""
    try:
        entries = list(json.loads(_text(folder / "emoji.json")))
        named = sorted((each["category"], each["image"]) for each in entries if each["has_img_google"])
    except (ValueError, KeyError, TypeError) as error:
        raise FiltersubError(
            f"{folder / 'emoji.json'} is no list of emoji: {error}; install the package anew"
        ) from None
    if not named:
        raise FiltersubError(f"{folder / 'emoji.json'} is no list of emoji: it has none; install the package anew")
    named = [(group, image) for group, image in named if group != "Component"]  # five tones of skin and hair
    classes = tuple(sorted({group for group, _ in named}))
    return _split(folder, [(f"img/google/64/{image}", classes.index(group)) for group, image in named], classes)


#: name of a set -> what opens it
LISTED: dict[str, Callable[[Path], Source]] = {"elpv": open_elpv, "emoji": open_emoji}


def _split(folder: Path, rows: Rows, classes: tuple[str, ...]) -> Source:
    """The first 1,000 images of a fixed order train (800 and 200 where something is chosen), the rest test."""
    parts: dict[str, FileImages] = {}
    problems: list[Problem] = []
    for part, places in split_rows(len(rows)).items():
        parts[part], found = fenced_images(folder, [rows[place] for place in places.tolist()], len(classes), part)
        problems += found if part in ("train", "test") else []
    return Source(len(classes), **parts, classes=classes, problems=tuple(problems))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FiltersubError(f"cannot read {path}: {reason}; install the package anew") from None
