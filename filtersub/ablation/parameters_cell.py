"""The cell tagged ``parameters``, line by line: its names, types and defaults, or its faults. It is never run.

Both this reader and papermill's own ``--help-notebook`` take lines such as ``rate = 0.5  # of the optimiser`` and
``block: Optional[int] = None``; only this one takes ``block: int | None = None``, too, and comments with ``=`` in them.
"""

import ast
import builtins
import collections.abc
import contextlib
import functools
import operator
import typing
from collections.abc import Mapping
from typing import Any

from .. import schema
from .notebook_file import Notebook

_TYPING = ("typing", "collections.abc", "collections", "__future__")
_NAMES = {
    **{kind.__name__: kind for kind in (bool, dict, float, frozenset, int, list, object, set, str, tuple)},
    **{name: getattr(typing, name) for name in ("Any", "Dict", "List", "Literal", "Optional", "Set", "Tuple", "Union")},
    **{name: getattr(collections.abc, name) for name in ("Collection", "Iterable", "Mapping", "Sequence")},
}
_MODULES = ("typing", "t", "collections.abc", "abc")
ANYTHING = "any"  # of a parameter whose default is None and whose type is not stated


def read_parameters(notebook: Notebook) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """((type, default) by name, a line for each fault) of a notebook's parameters.

    The type is what the cell states (``block: Optional[int] = None``), else the default's own, and "any" for a bare
    None.
    """
    tagged = [cell for cell in notebook.cells if cell.has_parameters]
    if len(tagged) != 1:
        return {}, [f"it has {len(tagged)} cells tagged 'parameters'; it must have one"]
    if not tagged[0].is_code:
        return {}, [f"its cell tagged 'parameters' is a {tagged[0].cell_type} cell; make it a code cell"]
    try:
        lines = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        return {}, [f"its parameters cell is no Python: {error.msg} (line {error.lineno})"]
    found: dict[str, tuple[str, Any]] = {}
    faults: list[str] = []
    bound = _imported(notebook)
    for line in lines:
        if isinstance(line, ast.Import | ast.ImportFrom):
            faults += _import_faults(line)
            continue
        try:
            name, stated, default = _assignment(line)
        except ValueError as error:
            faults.append(f"its parameters cell may hold literals only: {error}")
            continue
        if name in found:
            faults.append(f"its parameters cell gives {name!r} twice")
        kind = ANYTHING if default is None else type(default).__name__
        if stated is not None:
            try:
                kind = stated_type(stated)
                if "annotations" not in bound:
                    evaluated(stated, bound)
            except (ValueError, SyntaxError) as error:
                faults.append(f"its parameter {name!r}: {error}")
        found[name] = kind, default
    return found, faults


def _assignment(line: ast.stmt) -> tuple[str, ast.expr | None, Any]:
    """(name, stated type, value) of ``name = literal`` or ``name: type = literal``; ValueError for anything else."""
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
        target, stated, value = line.target, line.annotation, line.value
    elif isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        target, stated, value = line.targets[0], None, line.value
    else:
        raise ValueError(f"line {line.lineno} is no plain assignment")
    if value is None:
        raise ValueError(f"line {line.lineno} gives {target.id!r} no value")
    try:
        return target.id, stated, ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):  # TypeError: a set of lists
        raise ValueError(f"line {line.lineno} computes {target.id!r}: {ast.unparse(value)}") from None


def _import_faults(line: ast.Import | ast.ImportFrom) -> list[str]:
    modules = [line.module or ""] if isinstance(line, ast.ImportFrom) else [alias.name for alias in line.names]
    return [
        f"its parameters cell may hold literals only: line {line.lineno} imports {module}; names of types alone are "
        "imported there"
        for module in modules
        if module not in _TYPING
    ]


def _imported(notebook: Notebook) -> dict[str, Any]:
    """What imports of typing and its like make known up to the parameters cell, by the name that they give it."""
    known: dict[str, Any] = {}
    for cell in notebook.cells:
        with contextlib.suppress(SyntaxError):  # IPython's own
            for line in ast.parse(cell.source).body if cell.is_code else ():
                of_types = isinstance(line, ast.ImportFrom) and line.module in _TYPING and not line.level
                if isinstance(line, ast.Import):
                    line.names = [alias for alias in line.names if alias.name in _TYPING]
                    of_types = bool(line.names)
                if of_types:
                    with contextlib.suppress(ImportError):
                        exec(compile(ast.Module([line], []), "<imports>", "exec"), known)
        if cell.has_parameters:
            break
    return known


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
