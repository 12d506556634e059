"""``filtersub check-notebook``: whether a notebook can join an ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check_notebook(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Notebooks.")],
) -> None:
    """Check that notebooks keep the contract of an ablation: a line for each fault, exit code 2 if there is any."""
    from ..ablation.notebook_check import notebook_faults

    faults = {file: notebook_faults(file) for file in files}
    for file, found in faults.items():
        for fault in found:
            typer.echo(f"{file}: {fault}", err=True)
        if not found:
            typer.echo(f"{file}: keeps the contract")
    if any(faults.values()):
        raise typer.Exit(2)
