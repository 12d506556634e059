"""Python files beside a notebook that it imports: a network of one's own, a data set, a method."""

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_PACKAGE = __package__.partition(".")[0]
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE)


def own_files(folder: Path, code: Iterable[str]) -> tuple[Path, ...]:
    """The files in ``folder`` that the code imports, and those that these import in turn, in order of their paths.

    ``NAME.py``, or every Python file of the folder ``NAME``; no other file there is part of what a run is. This package
    is told apart by its version.
    """
    found: set[Path] = set()
    left = [name for text in code for name in _imported(text)]
    while left:
        for path in _files(folder, left.pop()):
            if path not in found:
                found.add(path)
                left += _imported(path.read_text(encoding="utf-8", errors="replace"))
    return tuple(sorted(found))


def add_to_path(folder: Path) -> None:
    """Lets kernels that start in this process import from the folder, as in Jupyter, where they start in it."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])


def _imported(text: str) -> Iterator[str]:
    for one, several in _IMPORT.findall(text):
        yield from (part.split()[0].partition(".")[0] for part in (one or several).split(",") if part.strip())


def _files(folder: Path, name: str) -> list[Path]:
    if name == _PACKAGE:
        return []
    own = folder / name
    if (own / "__init__.py").is_file() or (own.is_dir() and not _is_installed(name)):
        return [path for path in sorted(own.rglob("*.py")) if path.is_file()]
    return [path] if (path := folder / f"{name}.py").is_file() else []


def _is_installed(name: str) -> bool:
    """Whether Python imports this package rather than a folder of its name that has no ``__init__.py``: a folder
    ``datasets`` of a million images beside a notebook that imports Hugging Face's ``datasets``."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
