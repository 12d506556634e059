"""What a notebook must be so that an ablation can run it: where it is, its parameters, what it may be given."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FiltersubError
from .parameter_types import ANYTHING, in_words, is_of, stated_type

if TYPE_CHECKING:
    import nbformat

#: Parameters that the runner sets itself: each notebook runs in its own folder and writes there.
OUT_DIR, RECORDS_DIR = "out_dir", "records_dir"
_PACKAGE = Path(__file__).resolve().parents[1]


def find_notebook(name: str) -> Path:
    """A notebook by path, or by name in the checkout's notebooks/ or in the installed package.

    (load_spec has already made a path absolute that stands in a YAML file, beside that file.)

    Raises FiltersubError naming near ones when it is not there.
    """
    direct = Path(name)
    if direct.suffix == ".ipynb" and direct.is_file():
        return direct.resolve()
    folders = [_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks"]  # of a wheel; of a checkout
    for folder in folders:
        candidate = folder / f"{name.removesuffix('.ipynb')}.ipynb"
        if candidate.is_file():
            return candidate
    known = sorted({path.stem for folder in folders for path in folder.glob("*.ipynb")})
    raise FiltersubError(f"no notebook {name!r}{near(name, known)}")


def notebook_parameters(notebook: Path) -> dict[str, tuple[str, Any]]:
    """(type, default) of each name in the cell tagged ``parameters``; the cell is read, never run.

    The type is what the cell states (``block: int | None = None``), else the default's own, and "any" for a bare None.
    papermill's own inspect_notebook is not used: it loses lines with ``=`` in a comment or ``|`` in a type.
    Raises FiltersubError when there is no such cell, or it holds anything but literals given to names.
    """
    tagged = [cell for cell in read_notebook(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise FiltersubError(f"{notebook.name} has {len(tagged)} cells tagged 'parameters'; it must have one")
    found = {}
    try:
        for line in ast.parse(tagged[0].source).body:
            target, stated = _assignment(line)
            default = ast.literal_eval(line.value)
            own = ANYTHING if default is None else type(default).__name__
            found[target] = (own if stated is None else _stated(target, stated, notebook), default)
    except FiltersubError:
        raise
    except (ValueError, SyntaxError, AttributeError) as error:
        raise FiltersubError(f"{notebook.name}: its parameters cell may hold literals only: {error}") from None
    return found


def _stated(name: str, annotation: ast.expr, notebook: Path) -> str:
    try:
        return stated_type(annotation)
    except (ValueError, SyntaxError) as error:
        raise FiltersubError(f"{notebook.name}: its parameter {name!r}: {error}") from None


def _assignment(line: ast.stmt) -> tuple[str, ast.expr | None]:
    """(name, stated type) of ``name = literal`` or ``name: type = literal``; ValueError for anything else."""
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
        return line.target.id, line.annotation
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        return line.targets[0].id, None
    raise ValueError(f"line {line.lineno} is no plain assignment")


def check_parameters(parameters: Mapping[str, Any], known: Mapping[str, tuple[str, Any]], where: str) -> None:
    """FiltersubError unless each parameter is one of the notebook's and of its type (see parameter_types)."""
    for name, value in parameters.items():
        if name not in known:
            raise FiltersubError(f"{where} has no parameter {name!r}{near(name, known)}")
        accepted = in_words(known[name][0])
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError):
            raise FiltersubError(
                f"{where}: {name} must be a finite number, text or a list of them ({accepted}), got {value!r}"
            ) from None
        if is_of(value, known[name][0]):
            continue
        # YAML 1.1 reads 1e-3 as text: say so instead of leaving a reader to wonder.
        is_number = isinstance(value, str) and re.fullmatch(r"[\d.]+e[+-]?\d+", value)
        hint = " (YAML wants 1.0e-3 for 1e-3)" if is_number else ""
        raise FiltersubError(f"{where}: {name} must be {accepted}, got {value!r}{hint}")


def read_notebook(notebook: Path) -> nbformat.NotebookNode:
    """As nbformat's version 4; FiltersubError where it is not readable as that."""
    import nbformat  # seconds, and who reads records alone reads no notebook

    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:
        raise FiltersubError(f"{notebook.name} is not a readable notebook: {error}") from None


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where something known is close, a list of what is known otherwise."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"
