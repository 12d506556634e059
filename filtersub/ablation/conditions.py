"""Conditions on a run's parameters: a small language of mappings, nothing of which is ever evaluated as code.

A pattern is a mapping of parameters; a run matches it when every entry does. An entry is a value, a list of which any
may be met, or a mapping of comparisons: ``not``, ``above``, ``at_least``, ``below``, ``at_most``, whose right side is a
value (for ``not`` also a list) or ``{parameter: NAME}``, another parameter of the same run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "above": operator.gt,
    "at_least": operator.ge,
    "below": operator.lt,
    "at_most": operator.le,
}
COMPARISONS = ("not", *_COMPARISONS)


def matches(pattern: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether each entry of a checked pattern is met. A comparison with None, or of a text with a number, is not.

    >>> matches({"method": "linear", "atoms": [6, 12]}, {"method": "linear", "atoms": 12})
    True
    >>> matches({"expansion": {"above": {"parameter": "atoms"}}}, {"expansion": 6, "atoms": 9})
    False
    """
    return all(_meets(wanted, parameters[name], parameters) for name, wanted in pattern.items())


def mentioned(wanted: Any) -> tuple[list[Any], list[str]]:
    """(values, names of other parameters) in one entry, to be checked; ValueError says what is ill-formed in it."""
    if not isinstance(wanted, dict):
        return (wanted if isinstance(wanted, list) else [wanted]), []
    if not wanted:
        raise ValueError("an empty mapping compares with nothing")
    values, names = [], []
    for how, right in wanted.items():
        if how not in COMPARISONS:
            raise ValueError(f"unknown comparison {how!r}; known: {', '.join(COMPARISONS)}")
        if isinstance(right, dict):
            if list(right) != ["parameter"] or not isinstance(right["parameter"], str):
                raise ValueError(f"{how} takes a value or {{parameter: NAME}}, got {right!r}")
            names.append(right["parameter"])
        elif how != "not" and (isinstance(right, bool) or not isinstance(right, (int, float, str))):
            raise ValueError(f"{how} takes a number or a text, got {right!r}")
        else:
            values += right if isinstance(right, list) else [right]
    return values, names


def _meets(wanted: Any, value: Any, parameters: Mapping[str, Any]) -> bool:
    if isinstance(wanted, dict):
        return all(_compares(how, value, right, parameters) for how, right in wanted.items())
    return any(_same(value, each) for each in wanted) if isinstance(wanted, list) else _same(value, wanted)


def _compares(how: str, value: Any, right: Any, parameters: Mapping[str, Any]) -> bool:
    if isinstance(right, dict):
        right = parameters[right["parameter"]]
    if how == "not":
        return not _meets(right, value, parameters)
    try:
        return _COMPARISONS[how](value, right)
    except TypeError:
        return False


def _same(value: Any, other: Any) -> bool:
    """Equal, with True and 1 held apart; a list parameter meets a list's member only as a whole."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
