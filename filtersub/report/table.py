"""The table of all runs: its columns and cells, what can be filtered by, the files that a reader takes away, and what a
page needs of every run so that any two can be set beside each other.
"""

import io
import json
import math
import os
import shlex
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from ..ablation.notebook_run import HTML_FILE
from ..collect import Collection
from ..methods.options import MEANT_FOR
from ..percentages import NBSP, percentage
from ..records import Record
from ..varying import completed_parameters, varying_parameters

_MEBIBYTE = 2.0**20
_DIGITS = 6  # significant ones of a number
_GROUPS = ("Parameters", "Results", "Counts of parameters", "Costs")
_MOST_CHOICES = 20  # values of a setting that a list offers


@dataclass(frozen=True)
class Column:
    """A column of the table of runs: its name in the data, its heading, and how a value is shown."""

    name: str
    heading: str
    kind: str = "text"
    is_setting: bool = False

    def text(self, value: Any) -> str:
        return "–" if _is_missing(value) else SHOWN[self.kind](value)


SHOWN = {
    "text": str,
    "number": str,
    "percent": percentage,
    "count": lambda value: f"{int(value):,}",
    "seconds": lambda value: f"{value:,.0f}{NBSP}s" if value >= 10 else f"{value:.1f}{NBSP}s",
    "step": lambda value: f"{value:.3f}{NBSP}s",
    "memory": lambda value: f"{value / 2**20:,.0f}{NBSP}MiB",
}


def table_columns(records: list[Record], runs: pd.DataFrame) -> list[Column]:
    """What the table of runs shows: the settings that differ between runs, then results, counts and costs."""
    # the name of a run tells its method
    varying = [
        Column(name, name.replace("_", " "), is_setting=True)
        for name in varying_parameters(records)
        if name != "method"
    ]
    measured = [
        Column("seed", "seed", "number"),
        Column("test_accuracy", "test accuracy", "percent"),
        Column("trainable", "trained without head", "count"),
        Column("head", "trained head", "count"),
        Column("total", "model in all", "count"),
        Column("wall_seconds", "time", "seconds"),
        Column("seconds_per_step", "per step", "step"),
        Column("peak_memory_bytes", "peak memory", "memory"),
        Column("decomposition_seconds", "decomposing", "seconds"),
    ]
    # The model's size is one number unless models are compared; it is then told beneath the table.
    hidden = {"total"} if runs["total"].nunique() == 1 else set()
    return varying + [column for column in measured if column.name in runs and column.name not in hidden]


def shared_settings(records: list[Record]) -> list[tuple[str, str]]:
    """What all runs have in common: settings, and the size of the model."""
    varying = {*varying_parameters(records), "seed"}
    same = {name: value for name, value in records[0].parameters.items() if name not in varying}
    shared = [(name, Column(name, "").text(value)) for name, value in same.items()]
    totals = {record.counts["total"] for record in records}
    return shared + [("model parameters", f"{total:,}") for total in totals if len(totals) == 1]


def table_rows(found: Collection, runs: pd.DataFrame, columns: list[Column]) -> list[dict[str, Any]]:
    rows = []
    for run in runs.to_dict("records"):
        # Parameters as they were recorded: a table's column turns None and 2 into NaN and 2.0.
        settings = of_method(found.records[run["folder"]].parameters)
        values = [(settings if column.is_setting else run).get(column.name) for column in columns]
        cells = []
        for column, value in zip(columns, values, strict=True):
            sortable = "" if _is_missing(value) else str(value)
            cell = {"text": column.text(value), "value": sortable, "kind": column.kind, "heading": column.heading}
            cells.append(cell)
        page = page_of(run["folder"], found.root)
        named = {"family": run["family"], "label": run["label"], "run": run["run"]}
        named["id"] = run["folder"].relative_to(found.root).as_posix()
        rows.append({**named, "cells": cells, "page": page, "command": _repeat(found, run)})
    return rows


def of_method(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, None where they mean nothing to the run's method: m to LoRA, a rank to atoms."""
    method = parameters.get("method", "filter-subspace")
    return {**parameters, **{name: None for name, methods in MEANT_FOR.items() if method not in methods}}


def _repeat(found: Collection, run: dict[str, Any]) -> str | None:
    """The command that makes this planned run again by papermill; None where no plan says what made it."""
    planned = next((one for one in found.plan.get("runs", []) if one["run_id"] == run["run"]), None)
    if planned is None or planned["reads_records"] or not {"notebook", "parameters"} <= planned.keys():
        return None
    name = planned["notebook"]
    notebook = name if name.endswith(".ipynb") else f"notebooks/{name}.ipynb"
    given = shlex.quote(json.dumps({**planned["parameters"], "out_dir": f"repeated/{run['run']}"}))
    return f"papermill {shlex.quote(notebook)} {shlex.quote(run['run'] + '.ipynb')} -y {given}"


def page_of(folder: Path, root: Path) -> str | None:
    """The address of a run's page as a link from the report's, quoted: no name of a folder is read as a scheme, a
    query or an anchor. None where there is no page."""
    page = folder / HTML_FILE
    return quote(os.fsencode(page.relative_to(root).as_posix())) if page.is_file() else None


def filters(columns: list[Column], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lists to choose from, one a setting: its heading, its name, the number of its column, and its values in order.

    Column 0, the run's name, is filtered by the family of its method.
    """
    families = list(dict.fromkeys(row["family"] for row in rows))
    found = [{"heading": "method", "name": "method", "column": 0, "values": [(name, name) for name in families]}]
    found = found if len(families) > 1 else []
    for number, column in enumerate(columns):
        if not column.is_setting and column.name != "seed":
            continue
        values = {cell["value"]: cell["text"] for cell in (row["cells"][number] for row in rows)}
        if 1 < len(values) <= _MOST_CHOICES:
            ordered = sorted(values.items(), key=lambda pair: (pair[0] == "", _number(pair[0]), pair[0]))
            found.append({"heading": column.heading, "name": column.name, "column": number + 1, "values": ordered})
    return found


def portable(runs: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The table of runs with folders relative to the report's, so that it means the same elsewhere."""
    if runs.empty:
        return runs
    return runs.assign(folder=[folder.relative_to(root).as_posix() for folder in runs["folder"]])


def parquet(runs: pd.DataFrame) -> bytes:
    """The table as a Parquet file; a column of mixed values (a setting that is a word here, a list there) is JSON."""
    plain = runs.copy()
    for name in [name for name in plain if plain[name].dtype.kind == "O"]:
        kinds = {type(value) for value in plain[name] if not _is_missing(value)}
        # whole numbers are objects where 64 bits do not hold them
        if len(kinds) > 1 or kinds & {list, dict, tuple, int}:
            plain[name] = [None if _is_missing(value) else json.dumps(value) for value in plain[name]]
    buffer = io.BytesIO()
    plain.to_parquet(buffer, index=False)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value))


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
