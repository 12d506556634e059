"""How kernels are compiled: once for each processor and version of this package, and kept on disk.

numba keeps a compiled function until the file it stands in changes. Kernels call and inline one another across files,
so all kernels of one version of the package are kept together, in a folder that is named after the contents of every
file of it: a change anywhere makes another folder, and a kernel of an older version is never found.
"""

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import llvmlite
import numba
from numba import njit

ENGINE = Path(__file__).parent
_PREFIX = "filtersub-kernels-"
_FORGOTTEN_DAYS = 7  # without a kernel written to it, after which the folder of another version is removed
_REORDERED_SUMS = {"reassoc", "contract", "nsz"}
_ready: set[Hashable] = set()
#: For small functions that kernels of ``compiled`` call: their code becomes part of the kernel's.
inlined = njit(inline="always", error_model="numpy")
TEXT = "compiling kernels, once on this machine (about a minute) ..."
_SECONDS = 1.0  # of compiling before it is told
_said = threading.Event()
_log = logging.getLogger(__name__)


def stamp(engine: Path = ENGINE) -> str:
    """A hash of the names and contents of all files of the package, and of the versions of what compiles them."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(engine.rglob("*.py")):
        digest.update(path.relative_to(engine).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path | None:
    """Where the kernels of this version are kept: within NUMBA_CACHE_DIR, beside the sources, or in the user's cache;
    None where no file can be written to any of them."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "filtersub"
    given = [Path(numba.config.CACHE_DIR)] if numba.config.CACHE_DIR else []
    for place in [*given, ENGINE / "__pycache__", user]:
        folder = place / f"{_PREFIX}{stamp()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        _forget_old_versions(folder)
        return folder
    return None


def _forget_old_versions(folder: Path) -> None:
    oldest = time.time() - _FORGOTTEN_DAYS * 86400
    for other in folder.parent.glob(f"{_PREFIX}*"):
        if other != folder and max((path.stat().st_mtime for path in [other, *other.glob("*")]), default=0.0) < oldest:
            shutil.rmtree(other, ignore_errors=True)


def compiled(function: Callable) -> Callable:
    """numba's njit without the interpreter's lock; sums stay in the order in which they are written."""
    return _kept(function, {})


def compiled_wide(function: Callable) -> Callable:
    """The same, but sums may be reordered, which lets them use whole vectors; the same on any number of threads."""
    return _kept(function, {"fastmath": _REORDERED_SUMS})


def _kept(function: Callable, options: dict[str, object]) -> Callable:
    options = {"nogil": True, "error_model": "numpy", **options}
    folder = cache_folder()
    if folder is None:
        return njit(**options)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # numba reads it when it makes a function's cache, which is now
    try:
        return njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


def make_ready(key: Hashable, call: Callable[[], object]) -> None:
    """Have ``call`` compile a kernel, or fetch it from disk, unless done for that key; say so where it takes long."""
    if key in _ready:
        return
    with compile_notice():
        call()
    _ready.add(key)


@contextlib.contextmanager
def compile_notice() -> Iterator[None]:
    """Tell of compiling that begins inside the block and takes more than a second, unless this process has told before.

    In a notebook it is told as plain output, elsewhere on the error stream.
    """
    from numba.core import event

    class Compiling(event.Listener):
        def on_start(self, _: event.Event) -> None:
            if not timer.is_alive() and not timer.finished.is_set():
                timer.start()

        def on_end(self, _: event.Event) -> None:
            """Nothing: compiling one kernel compiles those that it calls, and the block ends with the last."""

    timer = threading.Timer(_SECONDS, _tell)
    timer.daemon = True
    with event.install_listener("numba:compile", Compiling()):
        try:
            yield
        finally:
            timer.cancel()


def _tell() -> None:
    if _said.is_set():
        return
    _said.set()
    if _in_notebook():
        print(TEXT, flush=True)  # the error stream is a red block there
    else:
        _log.warning(TEXT)


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
