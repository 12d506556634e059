"""Printing for the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import typer

from ..files import csv_text
from ..printable import printable
from .console_table import Column, grid, grid_width, heading_of, lists

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_ANY = 10_000  # columns of text: more than a table needs


def print_json(value: Any) -> None:
    """JSON on standard output, indented; NaN is an error."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON, null where a cell is missing or NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def say(text: str, *, err: bool = False) -> None:
    """A line on standard output, or on standard error; names in it cannot steer the terminal."""
    typer.echo(printable(text), err=err)


def print_csv(table: pd.DataFrame) -> None:
    """CSV on standard output: as it is into a pipe or file, printable on a terminal."""
    if sys.stdout.isatty():
        texts = table.select_dtypes(exclude="number").columns
        cells = {name: [printable(v) if isinstance(v, str) else v for v in table[name]] for name in texts}
        table = table.assign(**cells)
    sys.stdout.write(csv_text(table))  # typer.echo would take escape sequences out of the data


def print_table(table: pd.DataFrame | Mapping[str, Sequence[Any]], title: str, *, keys: int = 1) -> None:
    """A table, or columns by name, on standard output: text to the left, numbers to the right and in groups of three.

    No number or word is cut. In a terminal that is too narrow, texts are folded, long names after a hyphen, dot or
    slash; columns that still do not fit follow below, beside the first ``keys`` columns again. Into a pipe or file a
    table is as wide as it needs to be.
    """
    columns = [_column(name, values) for name, values in table.items()]
    console, title = plain_console(), printable(title)
    if not console.is_terminal:
        return plain_console(width=_ANY).print(grid(columns, title))
    if grid_width(columns) <= console.width:
        return console.print(grid(columns, title))
    for n, (width, part) in enumerate(lists(columns, title, keys, console.width)):
        if n:
            console.print()
        plain_console(width=width).print(part, crop=False)


def _column(name: Any, values: Any) -> Column:
    plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    numeric = values.dtype.kind in "biufc" if hasattr(values, "dtype") else plain
    return Column(heading_of(name), [cell(value) for value in values], numeric)


def plain_console(**options: Any) -> Console:
    """A console that prints texts as they are: names such as ``layers[0]`` or ``:cat:`` are no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)


class Tenths:
    """How far a stage is: a line on standard error at every tenth of it, whatever the size of its steps."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        tenth = done * 10 // total
        if tenth > self._told.get(stage, 0):
            self._told[stage] = tenth
            say(f"{stage}: {done:,} of {total:,}", err=True)


def cell(value: object) -> str:
    """A value as a table shows it, on one line; nothing for None."""
    if value is None or repr(value) == "<NA>" or value != value:  # pandas.NA, which has no truth value
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return printable("×".join(str(part) for part in value))
    return f"{value:,}" if isinstance(value, Integral) else printable(str(value))
