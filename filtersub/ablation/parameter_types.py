"""Types that a notebook states for its parameters, and whether a value of an ablation is of one.

The text of an annotation is read, never run: ``int | None``, ``Optional[float]``, ``list[int]``, ``tuple[int, ...]``,
``Literal["a", "b"]``, bare or in quotes.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import functools
import operator
import typing
from collections.abc import Mapping
from typing import Any

from .. import schema

_NAMES = {
    **{kind.__name__: kind for kind in (bool, dict, float, frozenset, int, list, object, set, str, tuple)},
    **{name: getattr(typing, name) for name in ("Any", "Dict", "List", "Literal", "Optional", "Set", "Tuple", "Union")},
    **{name: getattr(collections.abc, name) for name in ("Collection", "Iterable", "Mapping", "Sequence")},
}
_MODULES = ("typing", "t", "collections.abc", "abc")
ANYTHING = "any"  # of a parameter whose default is None and whose type is not stated


def stated_type(annotation: ast.expr) -> str:
    """An annotation as text, without quotes around it. Raises ValueError for a type that no ablation can check."""
    while isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    text = ast.unparse(annotation)
    _type(text)
    return text


def is_of(value: Any, kind: str) -> bool:
    """Whether a finite value of JSON is of a stated type; see schema.is_of."""
    return kind == ANYTHING or schema.is_of(value, _type(kind))


def evaluated(annotation: ast.expr, known: Mapping[str, Any]) -> None:
    """Raises ValueError where Python could not evaluate an annotation that stated_type takes, as it does when a cell
    runs: ``Optional`` that is not imported (``known`` holds what is, by name), a text in quotes beside ``|``."""
    namespace = {"__builtins__": {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}}
    code = compile(ast.Expression(annotation), "<annotation>", "eval")
    try:
        eval(code, {**known, **namespace})  # its names are those of types alone: stated_type has looked
    except NameError as error:
        text = ast.unparse(annotation)
        raise ValueError(
            f"the type {text!r} uses {error.name}, which is not imported; begin the cell with "
            f"'from typing import {error.name}', or put the type in quotes"
        ) from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the type {ast.unparse(annotation)!r} cannot be evaluated: {error}") from None


def in_words(kind: str) -> str:
    """``int or None`` for ``int | None``, ``Optional[int]`` and ``Union[int, None]``; other brackets as they stand."""
    return " or ".join(map(ast.unparse, _alternatives(ast.parse(kind, mode="eval").body)))


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    outer = ast.unparse(node.value).rpartition(".")[2] if isinstance(node, ast.Subscript) else ""
    if outer == "Optional":
        return [*_alternatives(node.slice), ast.Constant(None)]
    if outer == "Union":
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [each for part in parts for each in _alternatives(part)]
    return [node]


@functools.cache
def _type(text: str) -> Any:
    try:
        return _built(ast.parse(text, mode="eval").body)
    except (TypeError, SyntaxError) as error:
        raise ValueError(f"the type {text!r} cannot be read: {error}") from None


def _built(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _built(ast.parse(node.value, mode="eval").body)
        if node.value in (None, ...):
            return node.value
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) in _MODULES:
        node = ast.Name(node.attr)
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_built(node.left), _built(node.right)]  # noqa: UP007 (None | None is no type)
    if isinstance(node, ast.Tuple):
        return tuple(_built(part) for part in node.elts)
    if isinstance(node, ast.List):
        return [_built(part) for part in node.elts]
    if isinstance(node, ast.Subscript):
        outer = _built(node.value)
        inner = ast.literal_eval(node.slice) if outer is typing.Literal else _built(node.slice)
        return operator.getitem(outer, inner)
    raise ValueError(
        f"the type {ast.unparse(node)!r} is none that an ablation can check; state bool, int, float, str, list, tuple, "
        "dict, None, Optional, Union or Literal"
    )
