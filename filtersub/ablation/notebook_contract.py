"""What a notebook must be so that an ablation can run it: where it is, its parameters, what it may be given; and each
fault of one that cannot be run, told without running it.
"""

import ast
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FiltersubError, near
from ..files import as_path
from .notebook_file import Cell, Notebook, read_notebook
from .parameters_cell import in_words, is_of, read_parameters

#: Parameters that the runner sets itself: each notebook runs in its own folder and writes there.
OUT_DIR, RECORDS_DIR = "out_dir", "records_dir"
_PACKAGE = Path(__file__).resolve().parents[1]
KERNEL = "python3"
_FOLDERS = (OUT_DIR, RECORDS_DIR)
#: Calls that hand a notebook all its variables at once.
_TAKE_ALL = {"globals", "locals", "vars", "dir"}
#: Calls that write nothing, whatever they are given.
_WRITE_NOTHING = {"print", "display", "Markdown", "str", "repr", "len", "type"}


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

    Raises FiltersubError when there is no such cell, or it holds anything but literals given to names.
    """
    found, faults = read_parameters(read_notebook(notebook))
    if faults:
        more = f" ({len(faults) - 1} more: filtersub check-notebook names them)" if len(faults) > 1 else ""
        raise FiltersubError(f"{notebook.name}: {faults[0]}{more}")
    return found


def check_parameters(parameters: Mapping[str, Any], known: Mapping[str, tuple[str, Any]], where: str) -> None:
    """FiltersubError unless each parameter is one of the notebook's and of its type (see parameters_cell)."""
    for name, value in parameters.items():
        if name not in known:
            raise FiltersubError(f"{where} has no parameter {name!r}{near(name, known)}")
        accepted = in_words(known[name][0])
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError):
            wanted = f"a finite number, text or a list of them ({accepted})"
            raise FiltersubError(f"{where}: {name} must be {wanted}, got {value!r}") from None
        if not is_of(value, known[name][0]):
            # YAML 1.1 reads 1e-3 as text: say so instead of leaving a reader to wonder.
            is_number = isinstance(value, str) and re.fullmatch(r"[\d.]+e[+-]?\d+", value)
            hint = " (YAML wants 1.0e-3 for 1e-3)" if is_number else ""
            raise FiltersubError(f"{where}: {name} must be {accepted}, got {value!r}{hint}")


def notebook_faults(path: str | os.PathLike[str]) -> list[str]:
    """A line for each fault, empty for a notebook that can join an ablation (docs/ablations.md has the contract).

    Raises FiltersubError when there is no such file or it is no notebook.
    """
    path = as_path(path)
    if not path.is_file():
        raise FiltersubError(f"no notebook at {path}")
    return list(_faults(read_notebook(path)))


def _faults(notebook: Notebook) -> Iterator[str]:
    if notebook.kernel != KERNEL:
        yield f"its kernel is {notebook.kernel!r}; choose {KERNEL!r}, which every environment has"
    known, faults = read_parameters(notebook)
    yield from faults
    if known and OUT_DIR not in known:
        yield f"its parameters cell has no {OUT_DIR!r}, the folder that the runner tells it to write into"
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.is_code and cell.ran:
            yield f"cell {number} holds outputs or an execution count; clear all outputs before it is committed"
    yield from _use_faults(notebook, known)


def _use_faults(notebook: Notebook, known: Iterable[str]) -> Iterator[str]:
    """Cells that are no Python, parameters that no later cell reads, and a record that nothing could write."""
    read: set[str] = set()
    given: set[str] = set()
    begun = not any(cell.has_parameters for cell in notebook.cells)
    for number, cell in enumerate(notebook.cells, start=1):
        begun = begun or cell.has_parameters
        if not cell.is_code or cell.has_parameters or "injected-parameters" in cell.tags:
            continue
        try:
            tree, in_magics = _parsed(cell)
        except SyntaxError as error:
            yield f"cell {number} is no Python: {error.msg} (line {error.lineno})"
            continue
        if not begun:  # what stands before the parameters cell cannot use them
            continue
        read |= in_magics
        for line in tree.body:
            names = [node for node in ast.walk(line) if isinstance(node, ast.Name)]
            loaded = {name.id for name in names if isinstance(name.ctx, ast.Load)}
            for name in sorted(_stored(line) & set(known) - loaded - read):
                effect = "the runner looks elsewhere" if name in _FOLDERS else "a run that sets it would not differ"
                yield f"cell {number} gives its parameter {name!r} another value before anything uses it: {effect}"
            read |= loaded
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = call.func.id if isinstance(call.func, ast.Name) else ""
            if called in _TAKE_ALL and not call.args:
                read |= set(known)
            if called not in _WRITE_NOTHING:
                given |= _names_in([*call.args, *(keyword.value for keyword in call.keywords)])
        given |= in_magics
    for name in known:
        if name not in read and name not in _FOLDERS:
            yield f"no cell uses its parameter {name!r}: a run that sets it would not differ"
    if OUT_DIR in known and OUT_DIR not in given:
        record = "the record (Record(...).write(out_dir), or tune(..., out=out_dir))"
        what = "a file" if RECORDS_DIR in known else record
        yield f"no call is given {OUT_DIR}, so that {what} cannot be written into it"


def _parsed(cell: Cell) -> tuple[ast.Module, set[str]]:
    """(the cell as a kernel compiles it, words in it where it has IPython's own syntax, which hands on names as text).

    Raises SyntaxError.
    """
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return compile(cell.source, "<cell>", "exec", flags, dont_inherit=True), set()
        except SyntaxError:
            from IPython.core.inputtransformer2 import TransformerManager  # only for those cells: it takes a while

            changed = TransformerManager().transform_cell(cell.source)
            tree = compile(changed, "<cell>", "exec", flags, dont_inherit=True)
    return tree, set(re.findall(r"[^\W\d]\w*", cell.source))


def _stored(line: ast.stmt) -> set[str]:
    """Names to which an assignment gives a new value."""
    targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _names_in(nodes: Iterable[ast.expr]) -> set[str]:
    return {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)}
