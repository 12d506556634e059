"""Files that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import FiltersubError


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it becomes ``path`` on success and is removed on failure.

    Raises FiltersubError when the folder cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, target)
    except OSError as error:
        raise FiltersubError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        aside.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made with its parents and found writable; FiltersubError otherwise."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FiltersubError(f"cannot make the folder {folder}: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise FiltersubError(f"cannot write into the folder {folder}: permission denied")
    return folder


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Strict JSON (no NaN), indented, ending in a newline."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
