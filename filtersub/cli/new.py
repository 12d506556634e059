"""``filtersub new``: a folder to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = "efficientnet_lite0"


def new(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to write; its name is the ablation's.")],
    model: Annotated[str, typer.Option(help="Model of the runs, as for tune.")] = DEFAULT_MODEL,
    data: Annotated[str, typer.Option(help="Data set by name, see `filtersub data list`.")] = "digits",
) -> None:
    """Write a folder with a notebook, an ablation of it over m, m_1 and k_c, and a README."""
    from ..ablation.new_project import new_project
    from ..data.names import described

    described(data)  # unknown names are told before anything is written
    if model != DEFAULT_MODEL:  # whose check takes seconds
        from ..parameters import load_architecture

        load_architecture(model)
    written = new_project(folder, model=model, data=data)
    for path in written.values():
        typer.echo(f"wrote {path}")
    typer.echo(f"next: cd {shlex.quote(str(folder))} && filtersub ablate ablation.yaml --out report --dry-run")
