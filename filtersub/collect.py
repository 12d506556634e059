"""What lies below a report's folder: the records that count, those that newer ones replace, and the failures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .ablation import ABLATION_FILE
from .errors import FiltersubError
from .notebook_run import ERROR_FILE, HTML_FILE, read_state
from .records import Record, read_records, records_table

_DIGEST = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error, or one that was planned and never ran."""

    run_id: str
    error: str
    folder: Path | None = None


@dataclass(frozen=True)
class Collection:
    """All that a report is made of.

    Attributes
    ----------
    root : the folder looked into
    plan : the content of its ``ablation.json``; empty where there is none
    records : by folder
    damaged : a line for each record that cannot be read
    superseded : folders of records left out, since a newer run of the same name replaces them
    (records below the folder of another one are parts of that run, and are left to it)
    failures : planned runs that have no record
    readers : by run_id, the pages of notebooks that only read records
    """

    root: Path
    plan: dict[str, Any]
    records: dict[Path, Record]
    damaged: tuple[str, ...]
    superseded: tuple[Path, ...]
    failures: tuple[Failure, ...]
    readers: dict[str, Path]

    def of_kind(self, kind: str) -> dict[Path, Record]:
        return {folder: record for folder, record in self.records.items() if record.kind == kind}


def collect(root: str | os.PathLike[str]) -> Collection:
    """Read a folder of runs; folders copied in from other machines count like those made here.

    Of several runs whose names differ in their digest alone (an edited notebook, another version of the package), the
    planned one counts, or the newest where none is planned. Raises FiltersubError when the folder does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise FiltersubError(f"{root} is not a folder, so there are no records to report")
    plan = _read_plan(root)
    planned = {run["run_id"]: run for run in plan.get("runs", [])}
    found, damaged = read_records(root)
    records = {
        folder: record
        for folder, record in found.items()
        if not _unfinished(folder, planned) and not _is_part(folder, found, root)
    }
    kept = _without_superseded(records, set(planned))
    failures, readers = [], {}
    for run_id, run in planned.items():
        folder = root / run["folder"]
        state = read_state(folder).get("status")
        if not run["reads_records"]:
            failures += [] if folder in kept else [_failure(run_id, folder)]
        elif state == "done":
            readers[run_id] = folder / HTML_FILE
        elif state == "failed":  # one that is still to run, or is the reader itself, is not missing from the records
            failures.append(_failure(run_id, folder))
    lost = tuple(folder for folder in records if folder not in kept)
    return Collection(root, plan, kept, tuple(damaged), lost, tuple(failures), readers)


def tuning_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """records_table of the tuning runs, with ``folder``, ``family`` and ``trained`` (all trained, head included).

    Runs of one ``label`` differ in their seed alone: where more differs, the label is made to say it. Runs judged on
    validation images, which have no test accuracy, are not comparable and stay out.
    """
    tuning = {folder: record for folder, record in records.items() if is_judged_on_test(record)}
    table = records_table(tuning)
    if table.empty:
        return table
    table["folder"] = list(tuning)
    table["label"] = _telling_labels(tuning.values())
    table["family"] = [family(record.parameters) for record in tuning.values()]
    table["trained"] = table["trainable"] + table["head"]
    return table.sort_values(["trained", "label", "seed"], kind="stable", ignore_index=True)


def is_judged_on_test(record: Record) -> bool:
    """Whether it is a tuning run with a test accuracy."""
    return record.kind == "tuning" and "test_accuracy" in record.metrics


def settings_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting of tuning_table: mean, lowest and highest test accuracy over its seeds, counts, mean costs."""
    grouped = runs.groupby(["label", "family"], sort=False)
    accuracy = grouped["test_accuracy"].agg(["mean", "min", "max"])
    table = accuracy.rename(columns={"mean": "test_accuracy", "min": "lowest", "max": "highest"})
    table["seeds"] = grouped["seed"].agg(lambda seeds: sorted(set(seeds)))
    for name in ("trainable", "head", "trained", "total"):
        table[name] = grouped[name].first()
    for name in ("wall_seconds", "seconds_per_step", "peak_memory_bytes"):
        if name in runs:
            table[name] = grouped[name].mean()
    return table.reset_index()


def history_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """The epochs of all tuning runs in one table, with each run's label, family and seed."""
    return _joined(records, "tuning", "history")


def curve_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """The reconstruction errors of all decomposition runs in one table, with each run's label and seed."""
    return _joined(records, "decomposition", "curve")


def family(parameters: Mapping[str, Any]) -> str:
    """What kind of setting a tuning run has, for colours and for comparisons."""
    method = str(parameters.get("method", "other"))
    if method == "filter-subspace":
        return "spatial and block atoms" if parameters.get("block") else "spatial atoms"
    return {"linear": "head only", "full": "full tuning"}.get(method, method)


def varying_parameters(records: Iterable[Record]) -> list[str]:
    """Names of the parameters, but for the seed, in which these records differ, in the records' order."""
    records = list(records)
    names = dict.fromkeys(name for record in records for name in record.parameters if name != "seed")
    return [name for name in names if len({repr(record.parameters.get(name)) for record in records}) > 1]


def _telling_labels(records: Iterable[Record]) -> list[str]:
    records, labels = list(records), []
    for record in records:
        differing = varying_parameters(other for other in records if other.label == record.label)
        words = ", ".join(f"{name} {record.parameters.get(name)}" for name in differing)
        labels.append(f"{record.label}, {words}" if words else record.label)
    return labels


def _joined(records: Mapping[Path, Record], kind: str, name: str) -> pd.DataFrame:
    tables = []
    wanted = {folder: record for folder, record in records.items() if record.kind == kind}
    for (folder, record), label in zip(wanted.items(), _telling_labels(wanted.values()), strict=True):
        path = folder / record.tables.get(name, f"{name}.csv")
        if path.is_file():
            own = {"label": label, "family": family(record.parameters), "seed": record.seed}
            tables.append(pd.read_csv(path).assign(**own, folder=str(folder)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _read_plan(root: Path) -> dict[str, Any]:
    path = root / ABLATION_FILE
    if not path.exists():
        return {}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if all({"run_id", "folder", "reads_records"} <= set(run) for run in plan["runs"]):
            return plan
        raise ValueError("a run in it has no run_id, folder or reads_records")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FiltersubError(f"{path} is not a readable plan: {error}; run the ablation again to make it") from None


def _unfinished(folder: Path, planned: Mapping[str, Any]) -> bool:
    """A planned run whose notebook failed after its record was written: a failure, not a result."""
    return folder.name in planned and read_state(folder).get("status") == "failed"


def _is_part(folder: Path, folders: Iterable[Path], root: Path) -> bool:
    """Whether a record lies below the folder of another one (but the root's): then it is a part of that run."""
    return any(parent in folders for parent in folder.parents if root in parent.parents)


def _without_superseded(records: dict[Path, Record], planned: set[str]) -> dict[Path, Record]:
    best: dict[tuple[Path, str], Path] = {}
    for folder, record in records.items():
        name = (folder.parent, _DIGEST.sub("", folder.name))
        if not _DIGEST.search(folder.name) or folder.name in planned:
            continue
        rival = best.get(name)
        if rival is None or str(record.environment.get("date")) > str(records[rival].environment.get("date")):
            best[name] = folder
    names = {(folder.parent, _DIGEST.sub("", folder.name)) for folder in records if folder.name in planned}
    keep = {folder for name, folder in best.items() if name not in names}
    return {
        folder: record
        for folder, record in records.items()
        if folder in keep or folder.name in planned or not _DIGEST.search(folder.name)
    }


def _failure(run_id: str, folder: Path) -> Failure:
    try:
        error = (folder / ERROR_FILE).read_text(encoding="utf-8").split("\n", 1)[0]
    except OSError:
        return Failure(run_id, "has not run to its end")
    return Failure(run_id, error, folder if (folder / HTML_FILE).is_file() else None)
