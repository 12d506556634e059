"""``filtersub data``: what data sets there are, and whether they are complete."""

from __future__ import annotations

from typing import Annotated

import typer

data_app = typer.Typer(help="Data sets: what there is, and whether it is complete.", no_args_is_help=True)


@data_app.command("list")
def data_list() -> None:
    """The data sets that are known by name."""
    from .data import DATASETS

    for name, what in DATASETS.items():
        typer.echo(f"{name}: {what}")


@data_app.command("check")
def data_check(name: Annotated[str, typer.Argument(help="Data set by name.")]) -> None:
    """Load a data set and say what is there."""
    from .data import load_data

    split = load_data(name)
    typer.echo(f"{name}: {len(split.train)} training and {len(split.judged)} test images, {split.n_classes} classes")
