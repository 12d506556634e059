"""``filtersub report``: records in, one page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import FiltersubError


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A folder of runs, wherever they were made; several with --out.")
    ],
    out: Annotated[Path | None, typer.Option(help="Merge the runs of all folders into this one first.")] = None,
    against: Annotated[Path | None, typer.Option(help="An earlier report: say what changed beyond noise.")] = None,
    interval: Annotated[str, typer.Option(help="Uncertainty of a mean over seeds: t or bootstrap.")] = "t",
) -> None:
    """Write the HTML report of all records below a folder, or of several machines' folders."""
    from ..report import write_report
    from ..report.merge import merge

    if out is None and len(folders) > 1:
        named = " ".join(map(str, folders))
        raise FiltersubError(
            f"several folders make one report in a folder of its own: filtersub report {named} --out NEW"
        )
    if out is not None:
        done = merge(folders, out)
        damaged = f", {done.damaged} of them damaged" if done.damaged else ""
        for fault in done.plan_faults:
            typer.echo(f"filtersub: {fault}; its runs are merged without it", err=True)
        typer.echo(f"merged: {done.copied} runs copied into {out}, {done.kept} left as they were{damaged}")
    typer.echo(f"report: {write_report(out or folders[0], against=against, interval=interval)}")
