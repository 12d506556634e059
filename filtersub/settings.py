"""Small settings objects taken out of larger ones, by the names of their fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def taken_from(source: object, kind: type[T]) -> T:
    """A dataclass ``kind`` with each field that ``source`` has an attribute of, the rest at their defaults.

    >>> from filtersub.decomposition import DecompositionConfig
    >>> from filtersub.experiment import TuneSettings
    >>> taken_from(TuneSettings(atoms=6), DecompositionConfig).atoms
    6
    """
    values: dict[str, Any] = {f.name: getattr(source, f.name) for f in fields(kind) if hasattr(source, f.name)}  # type: ignore[arg-type]
    return kind(**values)
