"""Paths in lists stay under their root: no absolute path, no step upwards, no link that leads out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from .images import FileImages
from .problems import Problem, problem


class Fence:
    """Tells files below ``root`` from paths that leave it; folders are resolved once each.

    ``root`` itself may be a link: who names it, means it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self._inside: dict[str, bool] = {}

    def holds(self, relative: str) -> bool:
        """Whether the path, links followed, lies below the root, be there a file or not."""
        path = PurePath(relative)
        if path.anchor or ".." in path.parts or "\0" in relative:
            return False
        folder = str(path.parent)
        if folder not in self._inside:
            self._inside[folder] = self._leads_inside(self.root / folder)
        if not self._inside[folder]:
            return False
        return self._leads_inside(self.root / path, follow=False)

    def has_file(self, relative: str) -> bool:
        """Whether there is a file; a name too long for the disk, or a link in a circle, is none."""
        try:
            return (self.root / relative).is_file()
        except OSError:
            return False

    def _leads_inside(self, path: Path, follow: bool = True) -> bool:
        try:
            return not (follow or path.is_symlink()) or path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # a name too long, or links in a circle: it leads nowhere
            return True


def fenced_images(
    root: str | os.PathLike[str], rows: Iterable[tuple[str, int]], n_classes: int, part: str
) -> tuple[FileImages, list[Problem]]:
    """The images of a list of (path relative to ``root``, label), without the unusable ones, and these named."""
    fence = Fence(root)
    kept: list[tuple[str, int]] = []
    outside, missing, labels = [], [], []
    for path, label in rows:
        if not fence.holds(path):
            outside.append(path)
        elif not fence.has_file(path):
            missing.append(path)
        elif not 0 <= label < n_classes:
            labels.append(f"{path} {label}")
        else:
            kept.append((path, label))
    found = [
        *problem("outside", part, outside, f"paths that lead out of {fence.root}, where the files must lie"),
        *problem("missing image", part, missing, f"images in the list but not in {fence.root}"),
        *problem("label", part, labels, f"labels not in 0..{n_classes - 1}"),
    ]
    images = FileImages(fence.root, tuple(path for path, _ in kept), np.array([n for _, n in kept], dtype=np.int64))
    return images, found
