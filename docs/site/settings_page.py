"""What the fields of the settings say elsewhere: a page of the site, and the comments in the notebook of tuning.

``python docs/site/settings_page.py`` writes those comments; ``make format`` does, and a test holds them.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import nbformat

from filtersub.setting_fields import (
    BaselineFields,
    ClassificationFields,
    DenoisingFields,
    DiffusionFields,
    ModelFields,
    OptimizationFields,
    RecipeFields,
    StartFields,
    TuneFields,
    UpdateFields,
    help_of,
)

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "02_tuning.ipynb"
PARTS = (ModelFields, RecipeFields, StartFields, BaselineFields, UpdateFields, OptimizationFields)
PARTS += (ClassificationFields, TuneFields, DenoisingFields, DiffusionFields)
_WIDTH = 120


def page() -> str:
    """Every setting with its default and meaning, in Markdown; each stands in the first part that has it."""
    lines, told = ["# Settings", "", "Names in YAML and Python; on the command line `_` is `-`.", ""], set()
    for part in PARTS:
        lines += [
            f"## {part.__doc__.splitlines()[0].rstrip('.')}",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
        ]
        for each in fields(part):
            default = "to be given" if each.default is MISSING else f"`{each.default!r}`"
            row = f"| `{each.name}` | {default} | {help_of(each).replace('|', chr(92) + '|')} |"
            if row not in told:
                lines.append(row)
                told.add(row)
        lines.append("")
    return "\n".join(lines)


def commented(cell: str) -> str:
    """The parameters cell of a notebook, each setting with its meaning beside it."""
    known = {each.name: each for each in fields(TuneFields)}
    return "\n".join(_line(line, known) for line in cell.splitlines())


def _line(line: str, known: dict[str, Field[Any]]) -> str:
    name = re.match(r"\w*", line)[0]
    if name not in known:
        return line
    code = line.partition("  # ")[0]
    whole = f"{code}  # {help_of(known[name])}"
    return whole if len(whole) <= _WIDTH else f"{code}  # {known[name].metadata['meaning']}: `filtersub tune --help`"


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(each for each in notebook.cells if "parameters" in each.metadata.get("tags", []))
    cell.source = commented(cell.source)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
