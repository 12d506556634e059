"""VTAB-1k in the folder form people share: images/ and four lists of lines ``images/train800/000000.jpg 307``.

Zhai et al., "A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark",
arXiv:1910.04867: settings are chosen on 800 + 200 images, the 1,000 then train what is tested.
"""

from __future__ import annotations

from pathlib import Path

from .catalogue import Description
from .images import FileImages, Source
from .paths import fenced_images
from .problems import Problem, problem

LISTS = {
    "train": "train800val200.txt",
    "test": "test.txt",
    "search": "train800.txt",
    "validation": "val200.txt",
}


def open_vtab(folder: Path, described: Description) -> Source:
    """A task's four lists, read and held against the folder; what is wrong is in ``problems``."""
    parts: dict[str, FileImages] = {}
    problems: list[Problem] = []
    for part, name in LISTS.items():
        path = folder / name
        rows, malformed = _rows(path)
        if not path.is_file():
            problems.append(Problem("missing list", part, 1, f"{part}: the list {path} is missing", (name,)))
        problems += problem("malformed line", part, malformed, f"lines of {name} that are not 'path label'")
        parts[part], found = fenced_images(folder, rows, described.classes, part)
        problems += found
    return Source(described.classes, problems=tuple(problems), **parts)


def _rows(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """([(path, label)], lines that are none); a path may hold spaces."""
    rows, malformed = [], []
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return [], []
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        if name and label.lstrip("-").isdecimal():
            rows.append((name.strip(), int(label)))
        elif line.strip():
            malformed.append(f"line {number} ({line.strip()[:60]!r})")
    return rows, malformed
