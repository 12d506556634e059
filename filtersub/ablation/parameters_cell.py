"""The cell tagged ``parameters``, line by line: its names, types and defaults, or its faults. It is never run.

Both this reader and papermill's own ``--help-notebook`` take lines such as ``rate = 0.5  # of the optimiser`` and
``block: Optional[int] = None``; only this one takes ``block: int | None = None``, too, and comments with ``=`` in them.
"""

from __future__ import annotations

import ast
import collections.abc
import typing
from collections.abc import Iterator
from typing import Any

from .notebook_file import Notebook
from .parameter_types import ANYTHING, evaluated, stated_type

_TYPING = ("typing", "collections.abc", "collections", "__future__")


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
    bound = dict(_imported(lines)) | dict(_imported_before(notebook))
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


def _imported(lines: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """What imports of typing and its like make known, by the name that they give it."""
    modules = {"typing": typing, "collections.abc": collections.abc, "collections": collections}
    for line in lines:
        if isinstance(line, ast.ImportFrom) and line.module in _TYPING:
            home = modules.get(line.module)
            for alias in line.names:
                named = home.__all__ if alias.name == "*" and home is not None else [alias.name]
                yield from ((alias.asname or name, getattr(home, name, None)) for name in named)
        if isinstance(line, ast.Import):
            for alias in line.names:
                if alias.name in modules:
                    whole = modules[alias.name] if alias.asname else modules[alias.name.partition(".")[0]]
                    yield alias.asname or alias.name.partition(".")[0], whole


def _imported_before(notebook: Notebook) -> Iterator[tuple[str, Any]]:
    for cell in notebook.cells:
        if cell.has_parameters:
            return
        if cell.is_code:
            try:
                yield from _imported(ast.parse(cell.source).body)
            except SyntaxError:  # IPython's own
                continue
