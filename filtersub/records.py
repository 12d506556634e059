"""One folder a run, one ``record.json`` in it: what was asked, what came out, what it cost, where it ran.

A report is a function of such folders alone, so runs made on other machines are merged by copying folders.
"""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import FiltersubError
from .files import as_path, plain_json, read_json, visible, write_csv, write_json
from .former_names import by_name_of_today
from .markup import facts_html
from .schema import check, check_not_newer
from .version import processor

RECORD_FILE = "record.json"
DUPLICATES_NOTE = "duplicate images"
DATA_NOTE = "data set"
OPTIMIZER_NOTE = "steps of the optimizer"
RUN_NOTES = (OPTIMIZER_NOTE, DATA_NOTE, DUPLICATES_NOTE)  # the keys of the notes that are not about a layer
#: 1: operations of a step counted too often; 2: the penalty was called sparsity
_SCHEMA = 3
LONG_AGO = datetime.min.replace(tzinfo=UTC)  # of records without a date
_VERSIONED = ("filtersub", "torch", "timm", "peft", "accelerate", "numba", "numpy", "scikit-learn", "papermill")


@dataclass(frozen=True)
class Record:
    """One run, whole.

    Attributes
    ----------
    kind : "tuning" or "decomposition"
    label : what a reader calls the run, such as ``atoms m=9, blocks 4``
    parameters : settings as given, JSON types only
    seed : int
    metrics : figures of merit by name; accuracies are fractions of 1
    counts : parameters by name: ``trainable`` (without head), ``head``, ``total`` (the model's own), ``saved`` (numbers
        in the saved files, frozen ones that loading needs among them), integers
    cost : by name with unit: ``wall_seconds``, ``seconds_per_step``, ``peak_memory_bytes``, ``added_memory_bytes``
        (above what was in use before the first step), ``step_flops`` (in records of schema 1
        ``step_flops_overcounted``), ``saved_bytes``, ``decomposition_seconds``, ``decomposition_iterations``;
        of these seconds ``decomposition_reused_seconds`` were another run's, or an interrupted one's, which decomposed
        ``decomposition_reused_layers`` of the layers: they are no part of ``wall_seconds``
    environment : versions, hardware, commit, dirty, date; see describe_environment
    tables : file by name of each table beside the record
    choices : what was chosen on validation images, with the accuracy of every candidate
    notes : by layer, why the method passes it over; under DUPLICATES_NOTE, judged images that are training images too;
        under DATA_NOTE, what else is odd about the data set; under OPTIMIZER_NOTE, where the optimiser had to take
        other steps than its own
    """

    kind: str
    label: str
    parameters: dict[str, Any]
    seed: int
    metrics: dict[str, float]
    counts: dict[str, int]
    cost: dict[str, float]
    environment: dict[str, Any]
    status: str = "done"
    schema: int = _SCHEMA
    tables: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def made_at(self) -> datetime | None:
        """When the run was made; a date without a time zone is one of UTC. None where it does not say."""
        date = self.environment.get("date")
        found = None if date is None else datetime.fromisoformat(date)
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def layers_passed_over(self) -> dict[str, str]:
        """The notes of a tuning run that are about layers: by name, why the method leaves them as they are."""
        return {name: note for name, note in self.notes.items() if name not in RUN_NOTES}

    def write(self, folder: str | os.PathLike[str], **tables: pd.DataFrame) -> Record:
        """Write each table as NAME.csv, then the record, which thereby stands for all of it; returns it as written.

        Numbers of numpy and torch are written as numbers. Raises FiltersubError, naming the entry, for NaN and for what
        record_schema.RecordSchema refuses; the tables are there by then.
        """
        names = dict(self.tables)
        for name, table in tables.items():
            names[name] = f"{name}.csv"
            write_csv(as_path(folder) / names[name], table)
        path = as_path(folder) / RECORD_FILE
        try:
            content = plain_json(asdict(replace(self, tables=names)))
        except ValueError as error:
            raise FiltersubError(f"cannot write {path}: {error}") from None
        written = _checked(content, f"cannot write {path}")
        write_json(path, content)
        return written

    def _repr_html_(self) -> str:
        """What was asked and what came out, for notebooks; nothing of the machine but its device."""
        numbers = {**self.metrics, **self.counts, **self.cost}
        facts = [("seed", self.seed), ("status", self.status)]
        facts += [(name.replace("_", " "), f"{value:,.6g}") for name, value in numbers.items() if value is not None]
        facts.append(("device", self.environment.get("hardware", {}).get("device")))
        return facts_html(f"{self.kind}: {self.label}", facts)


def read_record(folder: str | os.PathLike[str]) -> Record:
    """The record of a run's folder. Raises FiltersubError, naming file and field, when it is missing or damaged."""
    path = as_path(folder) / RECORD_FILE
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        said = f"there is no record in {path.parent}; name the folder of a finished run, which holds {RECORD_FILE}"
        raise FiltersubError(said) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise FiltersubError(f"{path} is not a readable record: {why}") from None
    record = _checked(content, f"{path} is not a readable record")
    if record.schema == 1 and "step_flops" in record.cost:
        # it counts the gradients of grouped convolutions too often, up to 14 times the whole step
        names = {"step_flops": "step_flops_overcounted"}
        record = replace(record, cost={names.get(name, name): value for name, value in record.cost.items()})
    for name, file in record.tables.items():
        if not (path.parent / file).resolve().is_relative_to(path.parent.resolve()):
            raise FiltersubError(f"{path} is not a readable record: tables.{name} {file!r} is a link out of its folder")
    return record


def _checked(content: Any, source: str) -> Record:
    from .record_schema import RecordSchema  # pydantic, which nobody needs who neither reads nor writes a record

    check_not_newer(content, _SCHEMA, source)
    check(RecordSchema, content, source)
    if content.get("schema", 1) < _SCHEMA:
        content = {**content, "parameters": by_name_of_today(content["parameters"])}
    return Record(**{"schema": 1, **content})  # the first records named no schema


def read_records(root: str | os.PathLike[str]) -> tuple[dict[Path, Record], dict[Path, str]]:
    """All records below a folder, by folder in the order of their names, and by folder a line for each damaged one.

    Hidden folders, such as those that are half-copied, hold no runs.
    """
    records: dict[Path, Record] = {}
    damaged: dict[Path, str] = {}
    for path in visible(root, RECORD_FILE):
        try:
            records[path.parent] = read_record(path.parent)
        except FiltersubError as error:
            damaged[path.parent] = str(error)
    return records, damaged


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A table beside a record. Only empty cells are missing: texts such as ``NA``, ``None`` and ``null`` are texts.

    A column in which a number would lose a leading zero (``01``) is one of texts, too.

    Raises FiltersubError where the file is missing or no table.
    """
    file = as_path(path)
    try:
        content = file.read_bytes()
        read = partial(pd.read_csv, keep_default_na=False, na_values=[""])
        padded: list[str] = []
        if re.search(rb'(^|,)"?[+-]?0\d', content, re.M):
            texts = read(io.BytesIO(content), dtype=str)
            padded = [name for name in texts if texts[name].str.match(r"[+-]?0\d").any()]
        return read(io.BytesIO(content), dtype=dict.fromkeys(padded, str))
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise FiltersubError(f"{path} is not a readable table: {error}") from None


def records_table(records: dict[Path, Record]) -> pd.DataFrame:
    """One row a run: kind, label and seed, then parameters, metrics, counts and cost as columns of their own names."""
    rows = []
    for folder, record in records.items():
        head = {"run": folder.name, "kind": record.kind, "label": record.label, "seed": record.seed}
        rows.append({**record.parameters, **head, **record.metrics, **record.counts, **record.cost})
    return pd.DataFrame(rows)


def describe_environment() -> dict[str, Any]:
    """Versions, hardware, git commit and whether the tree was dirty, and the date (UTC), for a record.

    Never raises: a record is written after hours of training, and a fact that cannot be found out is None.
    """
    import torch

    commit = _or_none(_git, "rev-parse", "--short=12", "HEAD")
    changes = ("status", "--porcelain", "--untracked-files=no")
    return {
        "versions": {"python": platform.python_version()} | {name: _or_none(version, name) for name in _VERSIONED},
        "hardware": {
            "device": _or_none(lambda: torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"),
            "processor": _or_none(processor),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "commit": commit,
        "dirty": None if commit is None else _or_none(lambda: bool(_git(*changes))),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _or_none(fact: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return fact(*arguments)
    except Exception:  # whatever drivers, git and damaged metadata come up with
        return None


def _git(*arguments: str) -> str:
    """What git says of the package's own checkout; raises where it is none."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).resolve().parent), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=10)
    return run.stdout.strip()
