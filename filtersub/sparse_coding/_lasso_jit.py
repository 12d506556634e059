"""How the kernels of the LASSO are compiled: once per processor and version of their sources, kept on disk.

numba's cache knows a function by the file it stands in. The kernels call and inline one another across files, so here
a cached kernel belongs to the contents of its file and of every file of the package that it imports, directly or not:
a change in any of them gives a new kernel.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

from numba import njit

_FAST = {"reassoc", "contract", "nsz"}


@functools.cache
def sources(path: Path) -> frozenset[Path]:
    """The file, and the files that its relative imports lead to in any folder of the package, directly or not."""
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            imports = (n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.ImportFrom) and n.level)
            waiting += [other for node in imports for other in _imported(file, node) if other.is_file()]
    return frozenset(found)


def _imported(file: Path, node: ast.ImportFrom) -> list[Path]:
    """Where the modules of a relative import can lie; ``from . import name`` may name modules or what they define."""
    place = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    names = [place / f"{alias.name}.py" for alias in node.names]
    return [*([place.with_suffix(".py"), place / "__init__.py"] if node.module else []), *names]


def sources_stamp(path: Path) -> str:
    """A hash of the names and contents of these files."""
    digest = hashlib.sha256()
    for file in sorted(sources(path)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def compiled(function: Callable) -> Callable:
    """numba's njit without the interpreter's lock; sums stay in the order in which they are written."""
    return _kept(function, {})


def compiled_wide(function: Callable) -> Callable:
    """The same, but sums may be reordered, which lets them use whole vectors; the same on any number of threads."""
    return _kept(function, {"fastmath": _FAST})


def _kept(function: Callable, options: dict[str, object]) -> Callable:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        kernel = njit(cache=True, **options)(function)
        # numba has no public way to say what a cached function depends on; tests/test_lasso_jit.py watches this one
        kernel._cache._cache_file._source_stamp = sources_stamp(Path(inspect.getfile(function)))
        return kernel
    except (RuntimeError, AttributeError, OSError):  # no place to write to, no source, another numba: no cache, then
        return njit(**options)(function)
