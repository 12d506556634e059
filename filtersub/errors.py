"""The errors that users can cause, each one clear line that names the bad value and the fix."""

import difflib
from collections.abc import Iterable


class FiltersubError(ValueError):
    """Bad input: the command line prints its message as one line and exits with code 2."""


class LossNotFinite(FiltersubError):
    """Training stopped at a loss that is no number; the state after the last whole epoch is kept."""


class WeightFileWarning(UserWarning):
    """What was taken out of a file of weights, where it holds more than one thing or in another layout."""


class DamagedPlanWarning(UserWarning):
    """The plan of an output folder cannot be read; what needs no plan is done without it."""


class FormerNameWarning(UserWarning):
    """A setting was given under a name of before; it is taken under its name of today."""


class ConvergenceWarning(UserWarning):
    """A solver spent its iterations before it met its tolerance; its result says how far off it is."""


def reason(error: BaseException, most: int = 200) -> str:
    """The first line of what another library or the system says of an error, its whole words within ``most``
    characters; the error's class where it says nothing. A line that only announces the next one (it ends with a colon)
    is passed over.

    >>> reason(RuntimeError("Error(s) in loading state_dict for Net:\\n\\tsize mismatch for head"))
    'size mismatch for head'
    >>> reason(MemoryError())
    'MemoryError'
    >>> reason(OSError("check your connection and try again"), 31)
    'check your connection and try ...'
    """
    said = str(getattr(error, "strerror", None) or error)
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return line if len(line) <= most else f"{line[:most].rpartition(' ')[0] or line[:most]} ..."


def check_name(what: str, name: str, known: Iterable[str]) -> str:
    """The name, or a FiltersubError that lists the known ones and the nearest."""
    known = list(known)
    if isinstance(name, str) and name in known:
        return name
    hint = meant(name, known)
    before = f"{hint} Known" if hint else "; known"
    raise FiltersubError(f"unknown {what} {name!r}{before}: {', '.join(known)}")


def near(word: object, known: Iterable[str]) -> str:
    """``; did you mean X?`` where something known is close, a list of what is known otherwise."""
    known = list(known)
    return meant(word, known) or f"; known: {', '.join(known) or 'none'}"


def meant(word: object, known: Iterable[str], most: int = 1) -> str:
    """``; did you mean X?``, or ``X or Y?`` with up to ``most`` names, one that differs in case alone before others;
    nothing where no known name is close."""
    known, text = list(dict.fromkeys(known)), str(word)
    same = [name for name in known if name.casefold() == text.casefold()]
    close = same[:most] or difflib.get_close_matches(text, known, n=most)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
