"""The parts of a set by the names that people give them: train, validation and test, in any case."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import FiltersubError

#: The usual names of each part: those of ``datasets.data_files.SPLIT_KEYWORDS``.
PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_PART = {name: part for part, names in PART_NAMES.items() for name in names}


def part_of(name: str) -> str | None:
    """ "train", "validation" or "test" for one of its usual names, else None.

    >>> part_of("Training"), part_of("val"), part_of("cats")
    ('train', 'validation', None)
    """
    return _PART.get(name.strip().lower())


def by_part(names: Iterable[str], where: object) -> dict[str, str]:
    """The name that stands for each part, in the order train, validation, test; other names are left out.

    Raises FiltersubError where two names stand for one part: one of them would go unread.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        part = part_of(name)
        if part in found:
            raise FiltersubError(
                f"{where} has both {found[part]!r} and {name!r}, two names of its {part} part; rename or remove one"
            )
        if part is not None:
            found[part] = name
    return {part: found[part] for part in PART_NAMES if part in found}
