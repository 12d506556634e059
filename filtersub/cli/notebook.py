"""``filtersub check-notebook``: whether a notebook can join an ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import FiltersubError


def check_notebook(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Notebooks.")],
) -> None:
    """Check that notebooks keep the contract of an ablation: a line for each fault, exit code 2 if there is any."""
    from ..ablation.notebook_check import notebook_faults

    faulty = False
    for file in files:
        try:
            found = [f"{file}: {fault}" for fault in notebook_faults(file)]
        except FiltersubError as error:  # the other files are still looked at
            found = [str(error)]
        for fault in found:
            typer.echo(fault, err=True)
        if not found:
            typer.echo(f"{file}: keeps the contract")
        faulty |= bool(found)
    if faulty:
        raise typer.Exit(2)
