"""YAML read safely, with the line of each entry where asked: whatever is wrong with a file, or with one of its values,
is one line that says where.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import FiltersubError, reason
from .files import as_path

_MOST_LEVELS = 100  # of brackets in brackets
_MOST_ENTRIES = 100_000  # aliases of aliases grow without bounds


class PlainLoader(yaml.SafeLoader):
    """YAML's plain types, each wrong value an error with its line: an impossible date, a number of 5,000 digits, a tag
    that does not fit its value, a list as a key."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            reason = f"{kind} cannot be read here ({str(error).split(';')[0]})"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    said = f"the key {key.value!r} is there twice, first on line {seen[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
                seen[str(key.value)] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self.levels = getattr(self, "levels", 0) + 1
        try:
            if self.levels > _MOST_LEVELS:
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(None, None, f"more than {_MOST_LEVELS} levels of nesting", mark)
            return super().compose_node(parent, index)
        finally:
            self.levels -= 1


class ScientificLoader(PlainLoader):
    """Reads ``1e-3`` as the number that it is in JSON and in YAML 1.2; in YAML 1.1 it is a text."""


ScientificLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def packaged_yaml(path: Path) -> Any:
    """The content of a YAML file that comes with the package, by libyaml where PyYAML has it: ten times as fast."""
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load_yaml(text: str, source: str, loader: type[yaml.SafeLoader] = PlainLoader) -> Any:
    """The content of a text of YAML. Raises FiltersubError that names ``source`` and the line."""
    return readable(lambda: yaml.load(text, loader), source)


def readable(read: Callable[[], Any], source: str) -> Any:
    """What ``read`` returns, an error of YAML as one line."""
    try:
        return read()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        line = f":{mark.line + 1}" if mark else ""
        raise FiltersubError(f"{source}{line} is not valid YAML: {' '.join(str(problem).split())}") from None
    except RecursionError:
        raise FiltersubError(f"{source} is not valid YAML: its brackets are nested too deeply") from None


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
        places = (self.path[:n] for n in range(len(self.path), -1, -1))
        return next((self.lines[place] for place in places if place in self.lines), None)

    def error(self, text: str) -> FiltersubError:
        line = "" if self.line is None else f":{self.line}"
        stage = f" stage {self.path[1] + 1}:" if len(self.path) > 1 and self.path[0] == "stages" else ""
        return FiltersubError(f"{self.source}{line}:{stage} {text}")


def yaml_text(path: str | os.PathLike[str], source: str, what: str = "") -> str:
    """The text of a YAML file; FiltersubError where it cannot be read.

    ``source`` names it in the error, ``what`` with what it is for.
    """
    try:
        return as_path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise FiltersubError(f"cannot read {what or source}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise FiltersubError(f"{source} is not valid YAML: {error}") from None


def read_yaml(path: str | os.PathLike[str], source: str) -> tuple[Any, Place]:
    """The content of a YAML file as yaml.safe_load gives it, and the place of its top.

    Raises FiltersubError, with the line, for what is no YAML, a key given twice, and tags other than YAML's own.
    """
    text = yaml_text(path, source, f"the ablation {source}")
    lines: dict[tuple[Any, ...], int] = {}

    def walk(node: yaml.Node, path: tuple[Any, ...], above: tuple[yaml.Node, ...]) -> None:
        line = node.start_mark.line + 1
        lines.setdefault(path, line)
        if node in above or len(lines) > _MOST_ENTRIES:
            raise FiltersubError(f"{source}:{line} is not valid YAML: its aliases have no end")
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, (*path, number), (*above, node))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[(*path, str(key.value))] = key.start_mark.line + 1
                walk(value, (*path, str(key.value)), (*above, node))

    node = readable(lambda: yaml.compose(text, Loader=PlainLoader), source)
    if node is not None:
        walk(node, (), ())
    return load_yaml(text, source), Place(source, lines)
