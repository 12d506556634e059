"""A notebook as its file has it: kernel, cells, tags. Reading one imports neither nbformat nor anything else large."""

import importlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import FiltersubError

_GRAMMAR = "rfc3987_syntax"
_CURRENT = 4  # nbformat's major version since 2015; older files are converted


@dataclass(frozen=True)
class Cell:
    """One cell. ``ran`` says whether it holds outputs or an execution count."""

    cell_type: str
    source: str
    tags: tuple[str, ...]
    ran: bool

    @property
    def is_code(self) -> bool:
        return self.cell_type == "code"

    @property
    def has_parameters(self) -> bool:
        """Whether papermill puts a run's values after this cell."""
        return "parameters" in self.tags


@dataclass(frozen=True)
class Notebook:
    """A notebook's cells, and the name of its kernel where it states one."""

    name: str
    kernel: str | None
    cells: tuple[Cell, ...]


def read_notebook(path: Path) -> Notebook:
    """Raises FiltersubError where the file is no readable notebook."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["nbformat"] != _CURRENT:
            content = import_nbformat().read(path, as_version=_CURRENT)
        kernel = content.get("metadata", {}).get("kernelspec", {}).get("name")
        return Notebook(path.name, kernel, tuple(map(_cell, content["cells"])))
    except Exception as error:  # whatever is in the file
        raise FiltersubError(f"{path} is not a readable notebook: {_in_words(error)}") from None


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return "it is no JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)


def _cell(content: Any) -> Cell:
    source = content["source"]
    return Cell(
        content["cell_type"],
        source if isinstance(source, str) else "".join(source),
        tuple(content.get("metadata", {}).get("tags", ())),
        bool(content.get("outputs")) or content.get("execution_count") is not None,
    )


def import_nbformat() -> ModuleType:
    """nbformat without a second of work that nobody asked for.

    It imports jsonschema, which imports rfc3987_syntax where that is installed (JupyterLab brings it), which compiles a
    grammar of all addresses of the web. No field of a notebook is checked by it: where jsonschema is imported here, it
    fetches that grammar when it first checks an address.
    """
    if "jsonschema" not in sys.modules and _GRAMMAR not in sys.modules and importlib.util.find_spec(_GRAMMAR):
        later = ModuleType(_GRAMMAR)
        later.is_valid_syntax = lambda *given: importlib.import_module(_GRAMMAR).is_valid_syntax(*given)
        sys.modules[_GRAMMAR] = later
        try:
            importlib.import_module("jsonschema")
        finally:
            del sys.modules[_GRAMMAR]  # all others import the whole
    return importlib.import_module("nbformat")
