"""YAML read safely: whatever is wrong with a file, or with one of its values, is one line that says where."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from .errors import FiltersubError

_MOST_LEVELS = 100  # of brackets in brackets


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
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    said = f"the key {key.value!r} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
                seen.add(str(key.value))
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


def load_yaml(text: str, source: str, loader: type[yaml.SafeLoader] = PlainLoader) -> Any:
    """The content of a text of YAML. Raises FiltersubError that names ``source`` and the line."""
    return readable(lambda: yaml.load(text, loader), source)


def readable(read: Callable[[], Any], source: str) -> Any:
    """What ``read`` returns, an error of YAML as one line."""
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise FiltersubError(f"{source}{line} is not valid YAML: {' '.join(str(error.problem).split())}") from None
    except yaml.YAMLError as error:
        raise FiltersubError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise FiltersubError(f"{source} is not valid YAML: its brackets are nested too deeply") from None
