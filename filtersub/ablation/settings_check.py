"""Settings that a notebook makes of its parameters, made beforehand: ``method: loro`` fails before anything runs.

A call such as ``TuneSettings(method=method, **{"atoms": atoms})`` at the top of a cell is read, and made with a run's
values, where the class is a dataclass of this package and every argument is a parameter, a literal or made of such.
``settings_among(globals())``, or another function of this package that makes a dataclass of a notebook's variables, is
called alike.
"""

import ast
import functools
import importlib
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

from ..errors import FiltersubError, reason

_PACKAGE = __name__.partition(".")[0]
_MOST_CHECKED = 1_000  # combinations of a large grid; beyond, only those with a value that is new


class SettingsCheck:
    """The calls of one notebook that make settings.

    Parameters
    ----------
    sources : of the notebook's code cells but the one with its parameters
    names : of its parameters
    """

    def __init__(self, sources: Iterable[str], names: Iterable[str]) -> None:
        trees = [tree for tree in map(_parsed, sources) if tree is not None]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        changed = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        self._names = set(names) - changed
        self._imported = dict(_imports(nodes))
        self._expressions = [
            line.value for tree in trees for line in tree.body if isinstance(line, ast.Assign | ast.Expr)
        ]
        self._checked: dict[str, str | None] = {}
        self._values: set[tuple[str, str]] = set()

    @functools.cached_property
    def _calls(self) -> list[ast.Call]:
        """Found when the first check needs them: to know a class is to import it, and torch with it."""
        return [call for call in self._expressions if self._can_be_made(call)]

    @functools.cached_property
    def _used(self) -> list[str]:
        used = {node.id for call in self._calls for node in ast.walk(call) if isinstance(node, ast.Name)}
        return sorted(self._names if any(map(_takes_all, self._calls)) else used & self._names)

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raises FiltersubError where a run of these parameters, defaults included, would end in one."""
        values = [(name, repr(parameters[name])) for name in self._used]
        if len(self._checked) >= _MOST_CHECKED and self._values.issuperset(values):
            return
        if (key := str(values)) not in self._checked:
            self._checked[key] = self._fault(parameters)
            self._values.update(values)
        if (fault := self._checked[key]) is not None:
            raise FiltersubError(fault)

    def _fault(self, parameters: Mapping[str, Any]) -> str | None:
        for call in self._calls:
            try:
                self._make(call, parameters)
            except FiltersubError as error:
                return str(error)
            except (IndexError, KeyError):  # seeds[0] of an empty list
                return f"{', '.join(map(ast.unparse, _subscripts(call)))} is not there; give a longer list"
            except (TypeError, ValueError, SyntaxError) as error:  # a keyword that is given twice, or unknown
                return f"{ast.unparse(call)} fails: {reason(error)}"
        return None

    def _can_be_made(self, call: ast.expr) -> bool:
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self._imported):
            return False
        known = not call.args and all(self._is_known(keyword.value) for keyword in call.keywords)
        if not (known or _takes_all(call)):
            return False
        found = self._found(call)
        try:
            makes = typing.get_type_hints(found).get("return") if inspect.isfunction(found) else None
        except NameError:
            return False
        return is_dataclass(makes) if _takes_all(call) else isinstance(found, type) and is_dataclass(found)

    def _found(self, call: ast.Call) -> Any:
        """What the called name stands for in this package; None where it has no such thing."""
        module, name = self._imported[call.func.id]
        try:
            return getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None

    def _is_known(self, node: ast.expr) -> bool:
        plain = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Subscript, ast.Name, ast.Load, ast.UnaryOp, ast.USub)
        parts = list(ast.walk(node))
        return all(isinstance(part, plain) for part in parts) and all(
            part.id in self._names for part in parts if isinstance(part, ast.Name)
        )

    def _make(self, call: ast.Call, parameters: Mapping[str, Any]) -> None:
        if _takes_all(call):
            self._found(call)({name: parameters[name] for name in self._used})
            return
        known = {"__builtins__": {}, **parameters, call.func.id: self._found(call)}
        eval(compile(ast.Expression(call), "<call>", "eval"), known)  # _is_known has let literals and parameters pass


def _takes_all(call: ast.Call) -> bool:
    """Whether the one argument is ``globals()``."""
    return len(call.args) == 1 and not call.keywords and ast.unparse(call.args[0]) == "globals()"


def _subscripts(call: ast.Call) -> list[ast.expr]:
    return [node for node in ast.walk(call) if isinstance(node, ast.Subscript)]


def _imports(nodes: Iterable[ast.AST]) -> Iterable[tuple[str, tuple[str, str]]]:
    """(name in the notebook, (module, name there)) of all that is imported from this package."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _PACKAGE:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:  # IPython's own syntax
        return None
