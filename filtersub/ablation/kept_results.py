"""Results of pure functions, kept on disk: a dry run repeated imports neither torch nor timm.

The file is in the user's cache and named after all that such a result depends on beside its arguments: Python, the
contents of this package, and the libraries that build models. A change of any of them makes another file.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ..files import read_json
from ..user_cache import cache_folder, write_cached

T = TypeVar("T")
_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = (".py", ".yaml", ".csv", ".json")
_LIBRARIES = {  # module -> distribution
    **{name: name for name in ("torch", "torchvision", "timm", "peft", "transformers", "diffusers", "accelerate")},
    "lycoris": "lycoris-lora",
}
_PREFIX = "dry-run-"
_MOST = 50_000  # results in a file


class KeptResults:
    """Results by function and arguments.

    Parameters
    ----------
    path : JSON file; None keeps nothing. A file that cannot be read counts as empty
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._new = path, {}
        self._known = _read(path)

    def result(self, what: str, arguments: Any, make: Callable[[], T]) -> T:
        """What ``make`` returned for these arguments in whichever process, else what it returns now.

        Parameters
        ----------
        what : name of the function; ``arguments``, all that its result depends on, in types that JSON knows
        make : returns a value of JSON's types; nothing is kept where it raises
        """
        key = hashlib.sha256(json.dumps([what, arguments], sort_keys=True).encode()).hexdigest()[:32]
        if key not in self._known:
            self._known[key] = self._new[key] = make()
        return self._known[key]

    def write(self) -> None:
        """Add new results to the file, beside those that other processes added; no error where it cannot be written."""
        if self._path is None or not self._new:
            return
        others = _read(self._path)
        together = self._new if len(others) + len(self._new) > _MOST else {**others, **self._new}
        write_cached(self._path, json.dumps(together), _PREFIX)


@contextlib.contextmanager
def kept_results() -> Iterator[KeptResults]:
    """The results of this version; what is new is written at the end, after an error too."""
    kept = KeptResults(cache_file())
    try:
        yield kept
    finally:
        kept.write()


def cache_file() -> Path | None:
    """Where this version's results are kept; None where no home is known, or where a library is no installed release:
    its code may change while its version stays."""
    version, folder = stamp(), cache_folder()
    return None if version is None or folder is None else folder / f"{_PREFIX}{version}.json"


@functools.cache
def stamp(package: Path = _PACKAGE) -> str | None:
    """A digest of Python, the libraries that build models, and the contents of ``package``; None for libraries that run
    from a checkout."""
    digest = hashlib.sha256(sys.version.encode())
    for module, distribution in _LIBRARIES.items():
        found = importlib.util.find_spec(module)
        origin = "" if found is None else str(found.origin)
        if found is not None and not {"site-packages", "dist-packages"} & set(Path(origin).parts):
            return None
        digest.update(f"{origin} {_version(distribution)}\0".encode())
    for path in sorted(path for path in package.rglob("*") if path.suffix in _SOURCES):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _read(path: Path | None) -> dict[str, Any]:
    try:
        found = {} if path is None else read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
