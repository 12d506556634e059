"""What a notebook must be so that an ablation can run it: where it is, its parameters, what it may be given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FiltersubError, near
from .notebook_file import read_notebook
from .parameter_types import in_words, is_of
from .parameters_cell import read_parameters

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

    Raises FiltersubError when there is no such cell, or it holds anything but literals given to names.
    """
    found, faults = read_parameters(read_notebook(notebook))
    if faults:
        more = f" ({len(faults) - 1} more: filtersub check-notebook names them)" if len(faults) > 1 else ""
        raise FiltersubError(f"{notebook.name}: {faults[0]}{more}")
    return found


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
