"""``filtersub ablate``: a grid of notebook runs, then their report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ablate(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A YAML file, or a preset: quickstart.")],
    out: Annotated[Path, typer.Option(help="Folder of the ablation.")],
    workers: Annotated[int | None, typer.Option(help="Notebooks at once; default one a core.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT.")] = None,
) -> None:
    """Run an ablation's notebooks with papermill; finished runs are used again. Then write its report."""
    from .ablation import load_spec, run_ablation
    from .report import write_report

    loaded = load_spec(spec)
    summary = run_ablation(loaded, out, workers=workers, scheduler=scheduler)
    typer.echo(f"report: {write_report(out, loaded)}")
    if summary.failed:
        raise typer.Exit(1)
