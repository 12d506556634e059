"""How the kernels of the LASSO are compiled: once per processor and version of their sources, kept on disk.

numba's cache knows a function by the file it stands in. The kernels call and inline one another across files, so here
a cached kernel belongs to the contents of its file and of all that this one imports from beside it: whoever edits or
upgrades one of them gets a new kernel.
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
    """The file, and the files of its folder that it imports, directly or not."""
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            imports = (n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.ImportFrom) and n.level)
            beside = (file.parent / f"{node.module}.py" for node in imports if node.level == 1 and node.module)
            waiting += [other for other in beside if other.exists()]
    return frozenset(found)


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
