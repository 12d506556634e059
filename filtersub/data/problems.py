"""What can be wrong with a data set, each kind a clear line."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import FiltersubError

_EXAMPLES = 3
_MOST_CLASSES = 100_000  # ImageNet-21K has 21,841


class DataMissing(FiltersubError):
    """The set is not on this disk; the message says where it is looked for and how to obtain it."""


@dataclass(frozen=True)
class Problem:
    """One kind of fault in one part of a set.

    Attributes
    ----------
    what : "one class", "no images", "missing list", "malformed line", "outside", "missing image", "label",
        "broken image", "empty class", "class name", "count", "duplicate", "two labels", "dark image", "other file",
        "other folder", "checksum", "missing" or "unreadable"
    part : "train", "validation", "test" or ""
    count : images, lines or classes concerned
    message : one line
    examples : the first few, by name
    fatal : whether loading refuses it; the others are worth knowing (an empty class, a duplicate)
    """

    what: str
    part: str
    count: int
    message: str
    examples: tuple[str, ...] = ()
    fatal: bool = True


def problem(what: str, part: str, found: Iterable[str], words: str, *, fatal: bool = True) -> list[Problem]:
    """One Problem of all that was found, its first examples in the message; nothing where nothing was found."""
    found = list(found)
    if not found:
        return []
    shown = tuple(found[:_EXAMPLES])
    more = f" and {len(found) - len(shown):,} more" if len(found) > len(shown) else ""
    message = f"{part}: {words} ({len(found):,}): {', '.join(shown)}{more}"
    return [Problem(what, part, len(found), message.removeprefix(": "), shown, fatal)]


def refuse(problems: Iterable[Problem], name: str) -> None:
    """FiltersubError naming the first fatal problem; nothing where there is none."""
    fatal = [found for found in problems if found.fatal]
    if not fatal:
        return
    others = len(fatal) - 1
    more = f" (and {others} other problem{'s' if others > 1 else ''})" if others else ""
    raise FiltersubError(f"{name}: {fatal[0].message}{more}; `filtersub data check {name}` lists everything")


def classes_up_to(largest: int, where: object) -> int:
    """Classes of labels that are numbers up to ``largest``. Raises FiltersubError where that cannot be."""
    if largest >= _MOST_CLASSES:
        raise FiltersubError(f"{where} has the label {largest}; labels are numbers of classes, from 0 on, or names")
    return 1 + max(largest, 0)
