"""``filtersub report``: records in, one page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="A folder of runs, wherever they were made.")]) -> None:
    """Write the HTML report of all records below a folder."""
    from .report import write_report

    typer.echo(f"report: {write_report(folder)}")
