"""One folder a run, one ``record.json`` in it: what was asked, what came out, what it cost, where it ran.

A report is a function of such folders alone, so runs made on other machines are merged by copying folders.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import FiltersubError
from .files import write_json, written_whole
from .markup import facts_html
from .processor import processor

RECORD_FILE = "record.json"
DUPLICATES_NOTE = "duplicate images"  # the key of the one note that is not about a layer
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
        (above what was in use before the first step), ``step_flops``, ``saved_bytes``, ``decomposition_seconds``,
        ``decomposition_iterations``
    environment : versions, hardware, commit, dirty, date; see describe_environment
    tables : file by name of each table beside the record
    choices : what was chosen on validation images, with the accuracy of every candidate
    notes : by layer, why the method passes it over; under DUPLICATES_NOTE, judged images that are training images too
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
    schema: int = 1
    tables: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def layers_passed_over(self) -> dict[str, str]:
        """The notes of a tuning run that are about layers: by name, why the method leaves them as they are."""
        return {name: note for name, note in self.notes.items() if name != DUPLICATES_NOTE}

    def write(self, folder: str | os.PathLike[str], **tables: pd.DataFrame) -> Record:
        """Write each table as NAME.csv, then the record, which thereby stands for all of it; returns it as written."""
        names = dict(self.tables)
        for name, table in tables.items():
            names[name] = f"{name}.csv"
            with written_whole(Path(folder) / names[name]) as aside:
                table.to_csv(aside, index=False)
        written = replace(self, tables=names)
        write_json(Path(folder) / RECORD_FILE, asdict(written))
        return written

    def _repr_html_(self) -> str:
        """What was asked and what came out, for notebooks; nothing of the machine but its device."""
        numbers = {**self.metrics, **self.counts, **self.cost}
        facts = [("seed", self.seed), ("status", self.status)]
        facts += [(name.replace("_", " "), f"{value:,.6g}") for name, value in numbers.items() if value is not None]
        facts.append(("device", self.environment.get("hardware", {}).get("device")))
        return facts_html(f"{self.kind}: {self.label}", facts)


def read_record(folder: str | os.PathLike[str]) -> Record:
    """The record of a run's folder. Raises FiltersubError when it is missing or damaged, naming the file."""
    path = Path(folder) / RECORD_FILE
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FiltersubError(f"{path} is not a readable record: {error}") from None


def read_records(root: str | os.PathLike[str]) -> tuple[dict[Path, Record], list[str]]:
    """All records below a folder, by folder in the order of their names, and a line for each one that is damaged."""
    records, damaged = {}, []
    for path in sorted(Path(root).rglob(RECORD_FILE)):
        try:
            records[path.parent] = read_record(path.parent)
        except FiltersubError as error:
            damaged.append(str(error))
    return records, damaged


def records_table(records: dict[Path, Record]) -> pd.DataFrame:
    """One row a run: kind, label and seed, then parameters, metrics, counts and cost as columns of their own names."""
    rows = []
    for folder, record in records.items():
        head = {"run": folder.name, "kind": record.kind, "label": record.label, "seed": record.seed}
        rows.append({**record.parameters, **head, **record.metrics, **record.counts, **record.cost})
    return pd.DataFrame(rows)


def describe_environment() -> dict[str, Any]:
    """Versions, hardware, git commit and whether the tree was dirty, and the date (UTC), for a record."""
    import torch

    commit, dirty = _commit()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _VERSIONED},
        "hardware": {
            "device": device,
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the package's own checkout; (None, None) where it is not one."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return commit, bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
