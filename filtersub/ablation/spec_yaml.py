"""YAML read with the line of each entry, so that an error can say where; duplicate keys are errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import FiltersubError
from ..yaml_file import PlainLoader, load_yaml, readable

_MOST_ENTRIES = 100_000  # aliases of aliases grow without bounds


@dataclass(frozen=True)
class Place:
    """Where in a file something stands: ``source`` and the keys and indices that lead to it.

    >>> Place("a.yaml", {("stages", 0): 7}).at("stages", 0).error("no notebook").args[0]
    'a.yaml:7: stage 1: no notebook'
    """

    source: str
    lines: Mapping[tuple[Any, ...], int] = field(default_factory=dict, repr=False)
    path: tuple[Any, ...] = ()

    def at(self, *keys: Any) -> Place:
        return Place(self.source, self.lines, self.path + keys)

    def first(self, *candidates: tuple[Any, ...]) -> Place:
        """The first of these, seen from here, that stands in the file; here where none does."""
        return next((self.at(*keys) for keys in candidates if self.path + keys in self.lines), self)

    @property
    def line(self) -> int | None:
        """Its own line, else that of what holds it; None where nothing was read from a file."""
        return next(
            (self.lines[self.path[:n]] for n in range(len(self.path), -1, -1) if self.path[:n] in self.lines), None
        )

    def error(self, text: str) -> FiltersubError:
        line = "" if self.line is None else f":{self.line}"
        stage = f" stage {self.path[1] + 1}:" if len(self.path) > 1 and self.path[0] == "stages" else ""
        return FiltersubError(f"{self.source}{line}:{stage} {text}")


def read_yaml(path: str | os.PathLike[str], source: str) -> tuple[Any, Place]:
    """The content of a YAML file as yaml.safe_load gives it, and the place of its top.

    Raises FiltersubError, with the line, for what is no YAML, a key given twice, and tags other than YAML's own.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise FiltersubError(f"cannot read the ablation {source}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise FiltersubError(f"{source} is not valid YAML: {error}") from None
    node = readable(lambda: yaml.compose(text, Loader=PlainLoader), source)
    lines: dict[tuple[Any, ...], int] = {}
    if node is not None:
        _walk(node, (), lines, source, ())
    return load_yaml(text, source), Place(source, lines)


def _walk(
    node: yaml.Node,
    path: tuple[Any, ...],
    lines: dict[tuple[Any, ...], int],
    source: str,
    above: tuple[yaml.Node, ...],
) -> None:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if node in above or len(lines) > _MOST_ENTRIES:
        raise FiltersubError(f"{source}:{line} is not valid YAML: its aliases have no end")
    inner = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*path, number), lines, source, inner)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise FiltersubError(f"{source}:{at}: the key {name!r} is there twice, first on line {seen[name]}")
            seen[name] = lines[(*path, name)] = at
            _walk(value, (*path, name), lines, source, inner)
