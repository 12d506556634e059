"""How a command ends that does not succeed: the line that a user reads, and the exit code."""

import contextlib
import errno
import os
import sys

from ..errors import FiltersubError
from ..files import FULL
from ..printable import printable

_INTERRUPTED = 130
GONE = "the working folder was deleted; cd into one that is there, then run the command again"
#: what makes a path unusable that a user gave: its length, links in a circle, a folder for a file, permissions
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
_SHOWN = 80  # characters of a path


def told(error: BaseException) -> tuple[str, int]:
    """(the line that a user reads of an error, the exit code); an empty line for what is no user's doing."""
    if isinstance(error, FiltersubError):
        return printable(str(error)), 2
    if isinstance(error, OSError) and has_no_working_folder():  # deleted while the command ran
        return GONE, 2
    if isinstance(error, OSError) and error.errno in _NO_PATH and error.filename is not None:
        return f"cannot use {_shown(error.filename)}: {error.strerror}; give another path", 2
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        with contextlib.suppress(OSError, ValueError):  # drop what Python would try to write again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return f"cannot write the output: {error.strerror}; make room, or write it elsewhere", 2
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from "):  # before Python 3.13
        return f"a path leads in a circle of links: {printable(str(error))}; give another path", 2
    # Ctrl-C, or the exit that typer makes of it without a word; a command that has told of one exits by itself
    cause = getattr(error.__context__, "__cause__", None) if isinstance(error, SystemExit) else error
    while isinstance(cause, Exception):  # Python's RuntimeError of Ctrl-C while a class is made, as imports make many
        cause = cause.__cause__
    if isinstance(cause, KeyboardInterrupt):
        return "interrupted; what was finished is kept, run the same command to go on", _INTERRUPTED
    return "", 0


def has_no_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _shown(path: object) -> str:
    """A path as an error shows it: its middle is left out where it is long."""
    text = printable(os.fsdecode(path) if isinstance(path, str | bytes) else str(path))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]} ({len(text):,} letters)"
