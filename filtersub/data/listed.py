"""Images that a package of an index ships with one list of labels, split as the digits are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..errors import FiltersubError, reason
from ..files import read_json
from ..schema import check
from .digits import split_rows
from .images import FileImages, Source
from .paths import fenced_images
from .problems import Problem

Rows = list[tuple[str, int]]


class _SolarCell(BaseModel):
    path: Annotated[str, Field(min_length=1)]
    probability: Annotated[float, Field(ge=0, le=1)]  # that the cell is defective
    kind: str = ""


class _Emoji(BaseModel):
    model_config = ConfigDict(strict=True)
    category: str
    image: Annotated[str, Field(min_length=1)]
    has_img_google: bool


def open_elpv(folder: Path) -> Source:
    """Photographs of solar cells (elpv-dataset): functional, or defective where its probability is above one half."""
    listing = folder / "labels.csv"
    cells = [
        check(
            _SolarCell,
            dict(zip(_SolarCell.model_fields, line.split(), strict=False)),
            f"{listing}, line {number} (PATH PROBABILITY KIND)",
        )
        for number, line in enumerate(_text(listing).splitlines(), 1)
    ]
    rows = [(cell.path, int(cell.probability > 0.5)) for cell in cells]
    return _split(folder, rows, ("functional", "defective"))


def open_emoji(folder: Path) -> Source:
    """Drawings of emoji (emoji-datasource-google), 64 x 64 colour, by the group that Unicode puts them into."""
    listing = folder / "emoji.json"
    try:
        content = read_json(listing)
    except (OSError, ValueError) as error:
        raise FiltersubError(f"{listing} is no list of emoji: {reason(error)}; install the package anew") from None
    entries = check(Annotated[list[_Emoji], Field(min_length=1)], content, f"{listing} is no list of emoji")
    named = sorted((each.category, each.image) for each in entries if each.has_img_google)
    named = [(group, image) for group, image in named if group != "Component"]  # five tones of skin and hair
    if not named:
        raise FiltersubError(f"{listing} names no emoji that is drawn; install the package anew")
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
