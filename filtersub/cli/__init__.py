"""The command line: every command parses, calls one function and prints.

What makes the commands is imported by ``main``, so that Ctrl-C at once after the start is one line, too.
"""

import contextlib
import sys
import warnings

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(__name__, application=("COMMANDS", "app"))
_formatted = warnings.formatwarning


def main() -> None:
    """Entry point: bad input is one line on standard error and exit code 2; Ctrl-C says what to do next, and is 130."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a stream that somebody put in its place
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no Greek letters
    warnings.formatwarning = _one_line
    try:
        from .application import called

        called(sys.argv[1:])()
    except BaseException as error:
        from .endings import told

        line, code = told(error)
        if not line:
            raise
        sys.stderr.write(f"filtersub: {line}\n")
        raise SystemExit(code) from None


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this package is a note of the command; the others stay as they are."""
    from ..printable import printable

    if category.__module__.startswith(f"{__package__.partition('.')[0]}."):
        return f"filtersub: {printable(str(message))}\n"
    return _formatted(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
