"""Two runs beside each other: what the page needs of every run, so that a reader can choose any two."""

import json
import math
from typing import Any

import pandas as pd

from ..collect import Collection
from ..records import Record
from ..varying import completed_parameters
from .table import Column, of_method

_MEBIBYTE = 2.0**20
_DIGITS = 6  # significant ones of a number


def pair_data(found: Collection, runs: pd.DataFrame, columns: list[Column], rows: list[dict[str, Any]]) -> str:
    """JSON: ``names`` (pairs of a group and a name with its unit) and ``runs``, by id a ``title`` and the ``values`` of
    those names, numbers where they are numbers, texts else, null where the record has none.

    Parameters are those that vary between the runs, and the seed; results, counts and costs are all that the records
    hold. Fractions of 1 become percent, bytes MiB. Markup characters are escaped, as a script element needs.

    Parameters
    ----------
    found, runs, columns, rows : as table.table_rows has and gives them; a row's ``id`` names its run
    """
    records = [found.records[folder] for folder in runs["folder"]]
    varied = [column.name for column in columns if column.is_setting]
    parts = [_parts(record, varied) for record in records]
    names = list(dict.fromkeys(name for part in parts for name in part))
    names.sort(key=lambda name: _GROUPS.index(name[0]))  # of one group in the order in which they come
    told = {
        row["id"]: {"title": f"{row['label']}, seed {record.seed}", "values": [part.get(name) for name in names]}
        for row, record, part in zip(rows, records, parts, strict=True)
    }
    data = {"names": [[group, _unit(name)[0]] for group, name in names], "runs": told}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


_GROUPS = ("Parameters", "Results", "Counts of parameters", "Costs")


def _parts(record: Record, varied: list[str]) -> dict[tuple[str, str], Any]:
    """All values of a record by group and name, in the unit that is shown."""
    parameters = of_method(completed_parameters(record))
    taken = {name: parameters.get(name) for name in varied}
    groups = ({"method": parameters.get("method"), **taken, "seed": record.seed}, record.metrics, record.counts)
    return {
        (group, name): _value(name, value)
        for group, values in zip(_GROUPS, (*groups, record.cost), strict=True)
        for name, value in values.items()
    }


def _unit(name: str) -> tuple[str, float]:
    """A name with its unit, and by what its values are divided."""
    words = name.replace("_", " ")
    if name.endswith(("_accuracy", "_error", "_agreement", "_density")):
        return f"{words}, %", 0.01
    if name.endswith("_bytes"):
        return f"{words.removesuffix(' bytes')}, MiB", _MEBIBYTE
    return words, 1.0


def _value(name: str, value: Any) -> float | int | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, default=str)
    if not math.isfinite(value):
        return str(value)
    divided = value / _unit(name)[1]
    return int(divided) if divided == int(divided) else float(f"{divided:.{_DIGITS}g}")
