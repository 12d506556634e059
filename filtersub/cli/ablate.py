"""``filtersub ablate``: a grid of notebook runs, then their report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FiltersubError
from .console import Tenths, cell, plain_console, print_json
from .options import AsJson, LogWith, Reading

if TYPE_CHECKING:
    from ..ablation import Spec
    from ..ablation.dry_run import DryRun

_MANY = 1_000  # runs


def ablate(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A YAML file, or a preset such as quickstart.")],
    out: Annotated[Path, typer.Option(help="Folder of the ablation.")],
    reading: Reading = None,
    workers: Annotated[int | None, typer.Option(help="Notebooks at once; default one a GPU, else one a core.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs, their parameters and time; no run.")
    ] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run again what is there already.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that holds another ablation.")] = False,
    cold: Annotated[bool, typer.Option("--cold", help="Start each run as a new process, not forked.")] = False,
    log_with: LogWith = None,
    as_json: AsJson = False,
) -> None:
    """Run an ablation's notebooks with papermill; finished runs are used again. Then write its report."""
    from ..progress import waiting

    with waiting("checking the runs") as stop:
        from ..ablation import check_folder, load_spec, run_ablation

        loaded = load_spec(spec, reading)
        if loaded.n_runs > _MANY:  # whose check takes a while
            typer.echo(f"{loaded.n_runs:,} runs, before conditions; checking them", err=True)
        if dry_run:
            damaged = check_folder(out, loaded, force=force)
            found = _planned(loaded, out, workers)
            stop()
            if damaged:
                typer.echo(damaged, err=True)
            return print_json(found.to_json()) if as_json else _show_plan(loaded, found)
        if as_json:
            raise FiltersubError("--json goes with --dry-run; the results of an ablation are in its report's tables")
        from ..report import write_report  # a dry run needs neither this nor the training libraries that it brings

        options = {"workers": workers, "scheduler": scheduler, "rerun": rerun, "force": force, "warm": not cold}
        options["log_with"] = log_with
        summary = run_ablation(loaded, out, on_begin=stop, **options)
    typer.echo(f"report: {write_report(out, loaded)}")
    if summary.failed:
        raise typer.Exit(1)


def _planned(spec: Spec, out: Path, workers: int | None) -> DryRun:
    from ..ablation import list_runs

    return list_runs(spec, out, workers=workers, **({"on_run": Tenths()} if spec.n_runs > _MANY else {}))


def _show_plan(spec: Spec, found: DryRun) -> None:
    from rich.table import Table

    table = Table(title=f"{spec.name}: {spec.title}")
    table.add_column("run", overflow="fold")
    shown = {"there": "finished", "trained": "trainable", "head": "head"}
    if found.runs["printed"].notna().any():
        shown |= {"paper": "printed", "this": "gives"}
    shown["seconds"] = "seconds"
    for name in shown:
        table.add_column(name, justify="right")
    for row in replace(found, runs=found.runs.head(_MANY)).to_json()["runs"]:
        table.add_row(row["run_id"], *(cell(row[name]) for name in shown.values()))
    plain_console().print(table)
    if len(found.runs) > _MANY:
        typer.echo(f"these are the first {_MANY:,} of {len(found.runs):,} runs; --json lists all")
    for claim in found.claims:
        own = claim[spec.reading]
        why = f" ({own['why']})" if own["why"] else ""
        typer.echo(
            f"{claim['where']}, {claim['claim']}: {claim['printed']} printed, {own['computed']} by the reading "
            f"{spec.reading!r}: {own['verdict']}{why}"
        )
    for note, which in found.runs.groupby("note"):
        typer.echo(f"not counted, {len(which)} of {len(found.runs)} runs: {note}")
    left = (~found.runs["finished"]).sum()
    unknown = (found.runs["seconds"].isna() & ~found.runs["finished"]).sum()
    time = f"about {found.seconds:,.0f} s" if found.seconds is not None else f"time unknown for {unknown} of them"
    typer.echo(f"{len(found.runs)} run{'s' * (len(found.runs) != 1)}, {left} to be made: {time}")
