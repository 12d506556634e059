"""The command line: every command parses, calls one function and prints."""

import contextlib
import copy
import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from .. import __version__
from ..errors import FiltersubError
from ..files import FULL
from ..printable import printable
from .ablate import ablate, check_notebook, new, report
from .counting import count, suggest
from .data import data_app
from .decompose import compile_kernels, decompose
from .generate import distance, generate, generate_tune
from .help_pages import Command
from .paper import paper
from .tune import tune
from .usage import Group

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
COMMANDS = (
    *(decompose, count, suggest, tune, ablate, report, new, check_notebook),
    *(paper, generate_tune, generate, distance, compile_kernels),
)
for command in COMMANDS:
    app.command(cls=Command)(command)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"filtersub {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Decompose convolution kernels into filter atoms, tune only the atoms, publish the ablation."""
    if _has_no_working_folder():
        raise FiltersubError(_GONE)


_INTERRUPTED = 130
_GONE = "the working folder was deleted; cd into one that is there, then run the command again"
#: what makes a path unusable that a user gave: its length, links in a circle, a folder for a file, permissions
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
_SHOWN = 80  # characters of a path
_formatted = warnings.formatwarning


def main() -> None:
    """Entry point: bad input is one line on standard error and exit code 2; Ctrl-C says what to do next, and is 130."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a stream that somebody put in its place
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no Greek letters
    warnings.formatwarning = _one_line
    try:
        _called(sys.argv[1:])()
    except BaseException as error:
        line, code = _told(error)
        if not line:
            raise
        sys.stderr.write(f"filtersub: {line}\n")
        raise SystemExit(code) from None


def _called(words: Sequence[str]) -> typer.Typer:
    """``app`` with what is called alone: typer would build all commands, a sixth of what a quick one takes."""
    found = copy.copy(app)
    found.registered_commands = [each for each in app.registered_commands if _name(each.callback) in words[:1]]
    found.registered_groups = [each for each in app.registered_groups if each.name in words[:1]]
    return found if found.registered_commands or found.registered_groups else app


def _name(command: Callable[..., object]) -> str:
    return command.__name__.replace("_", "-")


def _told(error: BaseException) -> tuple[str, int]:
    """(the line that a user reads of an error, the exit code); an empty line for what is no user's doing."""
    if isinstance(error, FiltersubError):
        return printable(str(error)), 2
    if isinstance(error, OSError) and _has_no_working_folder():  # deleted while the command ran
        return _GONE, 2
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
    if isinstance(cause, KeyboardInterrupt):
        return "interrupted; what was finished is kept, run the same command to go on", _INTERRUPTED
    return "", 0


def _has_no_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _shown(path: object) -> str:
    """A path as an error shows it: its middle is left out where it is long."""
    text = printable(os.fsdecode(path) if isinstance(path, str | bytes) else str(path))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]} ({len(text):,} letters)"


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this package is a note of the command; the others stay as they are."""
    if category.__module__.startswith(f"{__package__.partition('.')[0]}."):
        return f"filtersub: {printable(str(message))}\n"
    return _formatted(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
