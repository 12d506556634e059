"""Printing for the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd


def print_json(value: Any) -> None:
    """JSON on standard output, indented; NaN is an error."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_table(table: pd.DataFrame, title: str) -> None:
    """A table on standard output: text to the left, numbers to the right and in groups of three."""
    from pandas.api.types import is_numeric_dtype
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title)
    for name in table.columns:
        shown.add_column(name, justify="right" if is_numeric_dtype(table[name]) else "left")
    for row in table.itertuples(index=False):
        shown.add_row(*(cell(value) for value in row))
    Console().print(shown)


def cell(value: object) -> str:
    """A value as a table shows it; nothing for None."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "×".join(str(part) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
