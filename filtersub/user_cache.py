"""The user's cache: files that can be made again, each named after the version of all that it was made with."""

import contextlib
import os
import time
from pathlib import Path

from .errors import FiltersubError
from .files import write_text

_FORGOTTEN_DAYS = 30  # since it was written, after which the file of another version is removed


def cache_folder() -> Path | None:
    """``filtersub`` in $XDG_CACHE_HOME or ~/.cache, which need not be there; None where no home is known."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "filtersub"
    except RuntimeError:
        return None


def write_cached(path: Path, text: str, kind: str) -> None:
    """Write a file of the cache, and remove old ones of the same ``kind``, a part of their names.

    No error where it cannot be written: it is made again whenever it is wanted.
    """
    with contextlib.suppress(FiltersubError, OSError):
        write_text(path, text)
        oldest = time.time() - _FORGOTTEN_DAYS * 86400
        for other in path.parent.glob(f"*{kind}*"):  # those that a killed process left half-written among them
            if other != path and other.is_file() and other.stat().st_mtime < oldest:
                other.unlink(missing_ok=True)
