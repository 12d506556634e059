"""``filtersub paper``: every claim, table and figure of the paper, and what each reading of it gives."""

from typing import Annotated

import typer

from .console import print_json, print_table, say
from .options import AsJson, Reading


def paper(
    reading: Reading = None,
    part: Annotated[
        str | None, typer.Option(help="Settings of one part with their sources: figure4, table1, table2 or table3.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what the paper claims and prints, beside what its two readings give, with the command that runs each.

    Counts come from the architectures alone; nothing is trained.
    """
    import pandas as pd

    from ..paper import READINGS, all_readings, check_reading, paper_overview

    readings = READINGS if reading is None else (check_reading(reading),)
    if part is not None:
        return _show_part(part, readings, as_json)
    rows = paper_overview(readings)
    if as_json:
        return print_json({"claims": [row.to_json() for row in rows], "notes": all_readings().notes})
    shown = []
    for row in rows:
        cells = {"where": row.claim.where, "claim": row.claim.claim, "printed": row.claim.printed}
        for name, verdict in row.verdicts.items():
            cells[f"{name} gives"], cells[f"{name} trains"] = verdict.computed, verdict.trained
            cells[f"{name} verdict"] = verdict.verdict
        cells["command"] = row.commands[readings[0]].partition(" --reading")[0].removeprefix("filtersub ")
        shown.append(cells)
    table = pd.DataFrame(shown)
    for name in readings:
        table[f"{name} trains"] = ["" if pd.isna(n) else f"{int(n):,}" for n in table[f"{name} trains"]]
    print_table(table, "claims, tables and figures of arXiv:2403.00269; a command takes --reading, see --json", keys=2)
    for name in readings:
        found = [row.verdicts[name].verdict for row in rows]
        many = {"agrees": "agree", "differs": "differ"}
        numbers = {word: found.count(word) for word in sorted(set(found))}
        counted = ", ".join(f"{n} {many.get(word, word) if n > 1 else word}" for word, n in numbers.items())
        say(f"{name}, {all_readings().titles[name]}: {counted}")
        for row in rows:
            if row.verdicts[name].verdict == "differs":
                why = row.verdicts[name].why
                say(
                    f"  differs: {row.claim.where}, {row.claim.claim}: {row.claim.printed} printed, "
                    f"{row.verdicts[name].computed} by the reading{f' ({why})' if why else ''}"
                )
    say("--json adds the command that runs or counts each row, and why the others cannot be known")


def _show_part(name: str, readings: tuple[str, ...], as_json: bool) -> None:
    from ..paper import all_readings, effort_of, find_part, reading_table

    part = find_part(name)
    tables = {reading: reading_table(part, reading) for reading in readings}
    takes = {reading: effort_of(part, reading) for reading in readings}
    if as_json:
        found = {}
        for reading, table in tables.items():
            effort = {**vars(takes[reading]), "gpu_hours": takes[reading].gpu_hours}
            found[reading] = {"settings": table.to_dict("records"), "effort": effort}
        return print_json(found)
    for reading, table in tables.items():
        shown = table.assign(value=[str(value) for value in table["value"]])
        print_table(shown, f"{part.title}, the reading {reading}: {all_readings().titles[reading]}")
        for note in all_readings().notes[reading]:
            say(f"- {note}")
        say(f"{takes[reading].sentence}, each run at one seed")
