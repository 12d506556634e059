"""``filtersub data``: what data sets there are, whether they are here and whole, and how to obtain them."""

from dataclasses import asdict
from typing import Annotated

import typer

from .console import print_json, print_table, say
from .help_pages import Command, Subgroup
from .options import AsJson

data_app = typer.Typer(cls=Subgroup, help="Data sets: what there is, and whether it is complete.", no_args_is_help=True)


@data_app.command("list", cls=Command)
def data_list(
    as_json: AsJson = False,
    obtain: Annotated[bool, typer.Option("--obtain", help="Say how to obtain each set that is not here.")] = False,
) -> None:
    """The data sets known by name. Nothing is ever downloaded."""
    from ..data import catalogue, data_root, is_there
    from ..data.names import PATH_KINDS

    known = list(catalogue().values())
    if as_json:
        sets = [{**vars(entry), "there": is_there(entry)} for entry in known]
        return print_json({"root": str(data_root()), "sets": sets, "paths": PATH_KINDS})
    shown = ("name", "title", "group", "classes", "train", "test")
    table = {name: [getattr(entry, name) for entry in known] for name in shown}
    table["there"] = [is_there(entry) for entry in known]
    print_table(table, f"data sets, looked for in {data_root()} (FILTERSUB_DATA says where)")
    for kind, what in PATH_KINDS.items():
        say(f"{kind}:PATH  {what}")
    absent: dict[str, list[str]] = {}
    for entry in known if obtain else ():
        if not is_there(entry):
            absent.setdefault(entry.obtain, []).append(entry.name)
    for how, names in absent.items():
        say("")
        say(f"{', '.join(names)}:")
        say(f"  {how}")


@data_app.command("check", cls=Command)
def data_check(
    name: Annotated[str, typer.Argument(help="Data set by name, or folder:PATH, csv:PATH, hf:PATH.")],
    as_json: AsJson = False,
) -> None:
    """Open every list and decode every image of a data set; exit code 1 where it cannot be trained on as it is."""
    from ..data import check_data
    from ..progress import progress_bar

    with progress_bar() as on_image:
        report = check_data(name, on_image=on_image)
    if as_json:
        print_json(asdict(report))
        raise typer.Exit(0 if report.complete else 1)
    counts = ", ".join(f"{count:,} {part}" for part, count in report.images.items())
    if counts:
        say(f"{report.name}: {report.classes:,} classes; images: {counts} ({report.where})")
    for found in report.problems:
        say(f"{'problem' if found.fatal else 'note'}: {found.message}")
    verdict = "complete" if report.complete else "not complete" if report.there else "not there"
    say(f"{report.name} is {verdict}; looked at in {report.seconds:.1f} s")
    raise typer.Exit(0 if report.complete else 1)
