"""Images that come with lists of their own: those of two packages, split as the digits are, and VTAB-1k.

VTAB-1k is read in the folder form people share: images/ and four lists of lines ``images/train800/000000.jpg 307``.
Zhai et al., "A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark",
arXiv:1910.04867: settings are chosen on 800 + 200 images, the 1,000 then train what is tested.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..errors import FiltersubError, reason
from ..files import read_json
from ..schema import check
from .catalogue import Description
from .digits import split_rows
from .images import FileImages, Source, fenced_images
from .problems import Problem, problem

VTAB_LISTS = {"train": "train800val200.txt", "test": "test.txt", "search": "train800.txt", "validation": "val200.txt"}
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
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FiltersubError(f"cannot read {listing}: {reason(error)}; install the package anew") from None
    rows = []
    for number, line in enumerate(lines, 1):
        found = dict(zip(_SolarCell.model_fields, line.split(), strict=False))
        cell = check(_SolarCell, found, f"{listing}, line {number} (PATH PROBABILITY KIND)")
        rows.append((cell.path, int(cell.probability > 0.5)))
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


#: name of a package's set -> what opens it
LISTED: dict[str, Callable[[Path], Source]] = {"elpv": open_elpv, "emoji": open_emoji}


def _split(folder: Path, rows: Rows, classes: tuple[str, ...]) -> Source:
    """The first 1,000 images of a fixed order train (800 and 200 where something is chosen), the rest test."""
    parts: dict[str, FileImages] = {}
    problems: list[Problem] = []
    for part, places in split_rows(len(rows)).items():
        parts[part], found = fenced_images(folder, [rows[place] for place in places.tolist()], len(classes), part)
        problems += found if part in ("train", "test") else []
    return Source(len(classes), **parts, classes=classes, problems=tuple(problems))


def open_vtab(folder: Path, described: Description) -> Source:
    """A task's four lists, read and held against the folder; what is wrong is in ``problems``."""
    parts: dict[str, FileImages] = {}
    problems: list[Problem] = []
    for part, name in VTAB_LISTS.items():
        try:
            text = (folder / name).read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            problems.append(Problem("missing list", part, 1, f"{part}: the list {folder / name} is missing", (name,)))
            text = ""
        rows, malformed = [], []
        for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
            path, _, label = line.rpartition(" ")  # a path may hold spaces
            if path and label.lstrip("-").isdecimal():
                rows.append((path.strip(), int(label)))
            elif line:
                malformed.append(f"line {number} ({line[:60]!r})")
        problems += problem("malformed line", part, malformed, f"lines of {name} that are not 'path label'")
        parts[part], found = fenced_images(folder, rows, described.classes, part)
        problems += found
    return Source(described.classes, problems=tuple(problems), **parts)
