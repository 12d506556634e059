"""The commands of ablations: ``ablate`` runs one, ``report`` shows it, ``new`` and ``check-notebook`` prepare one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FiltersubError
from ..printable import counted
from ..settings import MOST_WORKERS, check_whole
from .console import Tenths, print_json, print_table, say
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

    if workers is not None:
        check_whole("workers", workers, 1, MOST_WORKERS)
    with waiting("checking the runs") as stop:
        from ..ablation import check_folder, list_runs, load_spec, run_ablation

        loaded = load_spec(spec, reading)
        if loaded.n_runs > _MANY:  # whose check takes a while
            say(f"{loaded.n_runs:,} runs, before conditions; checking them", err=True)
        if dry_run:
            damaged = check_folder(out, loaded, force=force)
            told = {"on_run": Tenths()} if loaded.n_runs > _MANY else {}
            found = list_runs(loaded, out, workers=workers, **told)
            stop()
            if damaged:
                say(damaged, err=True)
            return print_json(found.to_json()) if as_json else _show_plan(loaded, found)
        if as_json:
            raise FiltersubError("--json goes with --dry-run; the results of an ablation are in its report's tables")
        from ..report import write_report  # a dry run needs neither this nor the training libraries that it brings

        options = {"workers": workers, "scheduler": scheduler, "rerun": rerun, "force": force, "warm": not cold}
        options["log_with"] = log_with
        summary = run_ablation(loaded, out, on_begin=stop, **options)
    say(f"report: {write_report(out, loaded)}")
    if summary.failed:
        raise typer.Exit(1)


def _show_plan(spec: Spec, found: DryRun) -> None:
    shown = {"run_id": "run", "finished": "there", "trainable": "trained", "head": "head"}
    if found.runs["printed"].notna().any():
        shown |= {"printed": "paper", "gives": "this"}
    shown["seconds"] = "seconds"
    print_table(found.runs.head(_MANY)[list(shown)].rename(columns=shown), f"{spec.name}: {spec.title}")
    if len(found.runs) > _MANY:
        say(f"these are the first {_MANY:,} of {len(found.runs):,} runs; --json lists all")
    for claim in found.claims:
        own = claim[spec.reading]
        why = f" ({own['why']})" if own["why"] else ""
        say(
            f"{claim['where']}, {claim['claim']}: {claim['printed']} printed, {own['computed']} by the reading "
            f"{spec.reading!r}: {own['verdict']}{why}"
        )
    for note, which in found.runs.groupby("note"):
        say(f"not counted, {len(which)} of {len(found.runs)} runs: {note}")
    left = (~found.runs["finished"]).sum()
    unknown = (found.runs["seconds"].isna() & ~found.runs["finished"]).sum()
    time = f"about {found.seconds:,.0f} s" if found.seconds is not None else f"time unknown for {unknown} of them"
    say(f"{counted(len(found.runs), 'run')}, {left:,} to be made: {time}")


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
        say(f"wrote {path}")
    say(f"next: cd {shlex.quote(str(folder))} && filtersub ablate ablation.yaml --out report --dry-run")


def check_notebook(files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Notebooks.")]) -> None:
    """Check that notebooks keep the contract of an ablation: a line for each fault, exit code 2 if there is any."""
    from ..ablation.notebook_contract import notebook_faults

    faulty = False
    for file in files:
        try:
            found = [f"{file}: {fault}" for fault in notebook_faults(Path(file))]
        except FiltersubError as error:  # the other files are still looked at
            found = [str(error)]
        for fault in found:
            say(fault, err=True)
        if not found:
            say(f"{file}: keeps the contract")
        faulty |= bool(found)
    if faulty:
        raise typer.Exit(2)


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
        raise FiltersubError(f"several folders make one report in a new folder: filtersub report {named} --out NEW")
    if out is not None:
        done = merge(folders, out)
        damaged = f", {done.damaged} of them damaged" if done.damaged else ""
        for fault in done.plan_faults:
            say(f"filtersub: {fault}; its runs are merged without it", err=True)
        say(f"merged: {counted(done.copied, 'run')} copied into {out}, {done.kept} left as they were{damaged}")
    say(f"report: {write_report(out or folders[0], against=against, interval=interval)}")
