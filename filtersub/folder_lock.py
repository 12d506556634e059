"""One writer a folder: the command that writes into ``--out`` locks it, and first sweeps up after those that died."""

import contextlib
import functools
import inspect
import json
import os
import re
import shlex
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from .errors import FiltersubError, reason
from .files import as_path, make_folder
from .processes import is_running

LOCK_FILE, HOLDER_FILE = ".filtersub.lock", ".filtersub.lock.json"
#: Folders of sockets in the system's folder for temporary files; a process's id follows.
SOCKETS = "fs-"
_PART = re.compile(r"\..*\.(\d+)\.part")
_PATIENCE = 15.0  # seconds until the children of a process that was killed have let go of its lock
_held: dict[Path, int] = {}  # by folder, the thread of this process that holds it
F = TypeVar("F", bound=Callable[..., Any])


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold a folder, made where it is missing, as its only writer; a thread that holds it already goes on.

    The lock is the operating system's (filelock), so it ends with its process, however that ends. Files that killed
    processes left half-written in the folder are removed first.

    Raises FiltersubError that names the process and the command that hold it.
    """
    folder = as_path(folder)
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    root = make_folder(folder).resolve()
    if _held.get(root) == threading.get_ident() or int(os.environ.get("RANK", "0")) > 0:
        yield root  # of several processes of one training, the first writes
        return
    lock = _acquired(root)
    _held[root] = threading.get_ident()
    try:
        sweep(root)
        yield root
    finally:
        del _held[root]
        for file in (HOLDER_FILE, LOCK_FILE):
            with contextlib.suppress(OSError):  # Windows removes no open file
                (root / file).unlink(missing_ok=True)
        lock.release()
        for each in missing:
            with contextlib.suppress(OSError):  # not empty: something was written
                each.rmdir()


def locks(parameter: str) -> Callable[[F], F]:
    """Has a function hold the folder it is given as ``parameter`` (None: no folder) while it runs; see locked."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def holding(*arguments: Any, **options: Any) -> Any:
            folder = signature.bind(*arguments, **options).arguments.get(parameter)
            with contextlib.nullcontext() if folder is None else locked(folder):
                return function(*arguments, **options)

        return holding  # type: ignore[return-value]

    return decorate


def sweep(root: str | os.PathLike[str], *, deep: bool = True) -> None:
    """Remove what processes that are gone left half-written below a folder (``deep=False``: in it), and their sockets.

    A file aside is known by its name, ``.NAME.PID.part``; one whose process runs is let be.
    """
    folder = as_path(root)
    below = folder.rglob(".*.part") if deep else folder.glob(".*.part")
    for path in list(below):
        if found := _PART.fullmatch(path.name):
            _remove_of(path, int(found[1]))
    for path in Path(tempfile.gettempdir()).glob(f"{SOCKETS}*-*"):
        if found := re.match(rf"{SOCKETS}(\d+)-", path.name):
            _remove_of(path, int(found[1]))


def socket_prefix() -> str:
    """How the name of a folder for sockets begins: it says which process it is of, and is short, as paths must be."""
    return f"{SOCKETS}{os.getpid()}-"


def _remove_of(path: Path, pid: int) -> None:
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's
        if is_running(pid, since=path.lstat().st_mtime):
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _acquired(root: Path) -> Any:
    from filelock import FileLock, Timeout

    patient_until = time.monotonic() + _PATIENCE
    while True:
        lock = FileLock(root / LOCK_FILE, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            holder = _holder(root)
            gone = holder.get("host") == socket.gethostname() and not is_running(holder["pid"], since=holder["since"])
            if holder and not gone:
                where = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
                raise FiltersubError(
                    f"process {holder['pid']}{where} writes into {root} ({holder['command']}); wait for it, end it, or "
                    "choose another folder"
                ) from None
            if time.monotonic() > patient_until:
                words = f"another process writes into {root}; wait for it, or choose another folder"
                raise FiltersubError(words) from None
            time.sleep(0.2)
            continue
        except OSError as error:
            raise FiltersubError(f"cannot lock the folder {root}: {reason(error)}") from None
        if not (root / LOCK_FILE).exists():  # its last holder removed it after it was opened here
            lock.release()
            continue
        command = shlex.join(psutil.Process().cmdline())
        command = command if len(command) <= 200 else f"{command[:197]}..."
        own = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": time.time()}
        with contextlib.suppress(OSError):  # a full disk is told by whoever writes what matters
            (root / HOLDER_FILE).write_text(json.dumps(own), encoding="utf-8")
        return lock


def _holder(root: Path) -> dict[str, Any]:
    """What the holder says of itself; empty while it has not said it."""
    try:
        holder = json.loads((root / HOLDER_FILE).read_text(encoding="utf-8"))
        return holder if {"pid", "host", "command", "since"} <= set(holder) else {}
    except (OSError, ValueError, TypeError):
        return {}
