"""Small settings objects taken out of larger ones, by the names of their fields."""

from __future__ import annotations

import math
import numbers
from dataclasses import fields
from typing import Any, TypeVar

from .errors import FiltersubError

T = TypeVar("T")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises FiltersubError unless a setting is a whole number from ``least`` to ``most``.

    >>> check_whole("steps", 2.5, 1)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: steps must be a whole number, got 2.5
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise FiltersubError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise FiltersubError(f"{name} must {f'be at least {least}' if least else 'not be negative'}, got {value}")
    if most is not None and value > most:
        raise FiltersubError(f"{name} must be at most {most}, got {value}")


def check_number(name: str, value: object, least: float = -math.inf) -> None:
    """Raises FiltersubError unless a setting is a finite number of at least ``least``."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        raise FiltersubError(f"{name} must be a finite number, got {value!r}")
    if value < least:
        raise FiltersubError(f"{name} must {f'be at least {least}' if least else 'not be negative'}, got {value}")


def select_fields(source: object, kind: type[T]) -> T:
    """A dataclass ``kind`` with each field that ``source`` has an attribute of, the rest at their defaults.

    >>> from filtersub.decomposition import DecompositionConfig
    >>> from filtersub.experiment import TuneSettings
    >>> select_fields(TuneSettings(atoms=6), DecompositionConfig).atoms
    6
    """
    values: dict[str, Any] = {f.name: getattr(source, f.name) for f in fields(kind) if hasattr(source, f.name)}  # type: ignore[arg-type]
    return kind(**values)
