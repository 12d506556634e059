"""Whether a notebook keeps the contract of an ablation, fault by fault; nothing of it is run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import FiltersubError
from .notebook_contract import OUT_DIR, RECORDS_DIR, notebook_parameters, read_notebook

KERNEL = "python3"


def notebook_faults(path: str | os.PathLike[str]) -> list[str]:
    """A line for each fault, empty for a notebook that can join an ablation (docs/ablations.md has the contract).

    Raises FiltersubError when there is no such file or it is no notebook.
    """
    path = Path(path)
    if not path.is_file():
        raise FiltersubError(f"no notebook at {path}")
    return list(_faults(path))


def _faults(path: Path) -> Iterator[str]:
    notebook = read_notebook(path)
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != KERNEL:
        yield f"its kernel is {kernel!r}; choose {KERNEL!r}, which every environment has"
    known = {}
    try:
        known = notebook_parameters(path)
    except FiltersubError as error:
        yield str(error)
    if known and OUT_DIR not in known:
        yield f"its parameters cell has no {OUT_DIR!r}, the folder that the runner tells it to write into"
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            yield f"cell {number} holds outputs or an execution count; clear all outputs before it is committed"
    yield from _unused(notebook, known)


def _unused(notebook: object, known: dict[str, object]) -> Iterator[str]:
    """Parameters that no later cell reads, and a record that nothing could write."""
    read, given = set(), set()
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", []):
            continue
        try:
            tree = ast.parse(_without_magics(cell.source))
        except SyntaxError as error:
            yield f"cell {number} is no Python: {error.msg} (line {error.lineno})"
            continue
        read |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
            given |= {node.id for each in arguments for node in ast.walk(each) if isinstance(node, ast.Name)}
    for name in known:
        if name not in read and name not in (OUT_DIR, RECORDS_DIR):
            yield f"no cell uses its parameter {name!r}: a run that sets it would not differ"
    if OUT_DIR in known and OUT_DIR not in given:
        what = (
            "a file" if RECORDS_DIR in known else "the record (Record(...).write(out_dir), or tune(..., out=out_dir))"
        )
        yield f"no call is given {OUT_DIR}, so that {what} cannot be written into it"


def _without_magics(source: str) -> str:
    """IPython's ``%`` and ``!`` lines made comments."""
    return "\n".join("pass" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines())
