"""Content of a file held against its schema, once, at the door: one line that names file, field, value and fix."""

from __future__ import annotations

import functools
import json
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import FiltersubError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_MOST_CHARACTERS = 80  # of a bad value that an error shows
#: pydantic's words where they say less than a reader needs
UNKNOWN = "is not known here"
_SAID = {"missing": "is missing", "extra_forbidden": UNKNOWN, "too_short": "is empty"}
#: and what it says in words of Python, in those of YAML and JSON
_KINDS = {
    **{"dict_type": "a mapping", "model_type": "a mapping", "list_type": "a list", "string_type": "text"},
    **{"int_type": "a whole number", "bool_type": "true or false"},
}


def check(kind: Any, content: Any, source: str) -> Any:
    """``content`` as ``kind``, a pydantic model or any type with annotations that pydantic reads.

    Raises FiltersubError for the first field that does not fit: ``SOURCE: FIELD should be ..., got VALUE``.
    """
    return check_with(kind, content, lambda field, said: FiltersubError(f"{source}: {joined(field)}{said}"))


def check_with(kind: Any, content: Any, error: Callable[[tuple[Any, ...], str], Exception]) -> Any:
    """As check, with an error of one's own from (where it is, what is wrong), for files whose lines are known."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as found:
        raise error(*_first(found)) from None
    except RecursionError:
        raise error((), "is nested too deeply") from None


def check_not_newer(content: Any, newest: int, source: str = "") -> None:
    """Raises FiltersubError where a file's ``schema`` is above the newest that this version reads: it then says that,
    rather than the first field that does not fit."""
    found = content.get("schema") if isinstance(content, Mapping) else None
    if isinstance(found, int) and found > newest:
        where = f"{source}: " if source else ""
        raise FiltersubError(
            f"{where}schema {shown(found)} is of a newer filtersub, this one reads up to {newest}; update filtersub"
        )


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value as JSON and YAML have it is of a type: an int passes for a float, a list for a tuple, True for no
    number. Values that JSON does not know (NaN, dates) are of none."""
    from pydantic import ValidationError

    try:
        _adapter(kind).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except (ValidationError, ValueError, TypeError, RecursionError):
        return False
    return True


def check_settings(settings: Mapping[str, Any], kind: type, source: str, **others: Any) -> None:
    """Raises FiltersubError unless each setting is of the type of the dataclass ``kind``'s field of its name, or of the
    type that ``others`` names for it. Names that are in neither are let be."""
    hints = {**_hints(kind), **others}
    for name, value in settings.items():
        if name in hints and not is_of(value, hints[name]):
            raise FiltersubError(f"{source}: {name} must be {type_words(hints[name])}, got {shown(value)}")


def type_words(kind: Any) -> str:
    """``int or None`` for ``int | None``."""
    words = kind.__name__ if isinstance(kind, type) else str(kind)
    return words.replace("typing.", "").replace(" | ", " or ")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def shown(value: Any, *, quoted: bool = True) -> str:
    """A bad value for an error, on one line and cut where it is long."""
    text = " ".join(line.strip() for line in (repr(value) if quoted else str(value)).splitlines())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _first(found: ValidationError) -> tuple[tuple[Any, ...], str]:
    first = found.errors(include_url=False)[0]
    if first["type"] in _SAID:
        return first["loc"], _SAID[first["type"]]
    if first["type"] in _KINDS:
        return first["loc"], f"should be {_KINDS[first['type']]}, got {shown(first['input'])}"
    words = first["msg"].removeprefix("Value error, ")
    words = words[0].lower() + words[1:]
    said = words.removeprefix("input ")
    return first["loc"], said if first["type"] == "value_error" else f"{said}, got {shown(first['input'])}"


def joined(field: tuple[Any, ...]) -> str:
    """``runs[1].rate `` for ("runs", 1, "rate"); nothing for the whole."""
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).lstrip(".")
    return f"{shown(name, quoted=False)} " if name else ""
