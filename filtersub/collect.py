"""What lies below a report's folder: the records that count, those that newer ones replace, and the failures."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from .ablation import read_plan
from .ablation.notebook_run import ERROR_FILE, HTML_FILE, read_state
from .errors import FiltersubError
from .files import as_path
from .intervals import accuracy_row, on_pareto_front
from .methods.options import METHODS
from .records import LONG_AGO, RECORD_FILE, Record, read_records, read_table, records_table
from .varying import TASK, tasks, telling_labels
from .varying import varying_parameters as varying_parameters  # offered here too

#: Families that tune filter atoms alone, the paper's settings 1 to 4.
ATOM_FAMILIES = ("spatial atoms", "overcomplete atoms", "spatial and block atoms", "overcomplete and block atoms")
#: The family of the control that trains the coefficients beside the atoms, as many numbers as the kernels' own or more.
COEFFICIENTS = "atoms and coefficients"
#: The family of runs that name no method: those of a notebook of one's own.
OTHER = "other"
#: short names of methods whose label is no name with a size behind it; "adapter" is of runs of before
_SHORT = {"bitfit": "BitFit", "norm": "norm layers", "ssf": "SSF", "adapter": "adapters"}
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
    plan : the content of its ``ablation.json``; empty where there is none, or none that can be read
    plan_fault : a line about a plan that cannot be read, else nothing
    records : by folder
    damaged : a line for each record that cannot be read or believed
    superseded : folders of records left out, since a newer run of the same name replaces them
    (records below the folder of another one are parts of that run, and are left to it)
    doubtful : a line for what is odd about runs that can be read: copies of one record, which counts once, and runs of
        no plan, which count
    failures : planned runs that have no record
    readers : by run_id, the pages of notebooks that only read records
    """

    root: Path
    plan: dict[str, Any]
    plan_fault: str
    records: dict[Path, Record]
    damaged: tuple[str, ...]
    superseded: tuple[Path, ...]
    doubtful: tuple[str, ...]
    failures: tuple[Failure, ...]
    readers: dict[str, Path]

    @property
    def counts(self) -> dict[str, int]:
        """Runs by what they are, as every caption of a report counts them: ``compared`` (tuning runs judged on test
        images), ``validated`` (those judged on validation images), ``other`` (other records), ``readers`` (notebooks
        that only read records)."""
        tuning = self.of_kind("tuning").values()
        compared = sum(map(is_judged_on_test, tuning))
        counts = {"compared": compared, "validated": len(tuning) - compared}
        return {**counts, "other": len(self.records) - len(tuning), "readers": len(self.readers)}

    def of_kind(self, kind: str) -> dict[Path, Record]:
        return {folder: record for folder, record in self.records.items() if record.kind == kind}


def collect(root: str | os.PathLike[str]) -> Collection:
    """Read a folder of runs; folders copied in from other machines count like those made here.

    Of several runs whose names differ in their digest alone (an edited notebook, another version of the package), the
    planned one counts, or the newest where none is planned. Raises FiltersubError when the folder does not exist.
    """
    root = as_path(root)
    if not root.is_dir():
        raise FiltersubError(f"{root} is not a folder, so there are no records to report")
    try:
        plan, fault = read_plan(root), ""
    except FiltersubError as error:
        plan, fault = {}, str(error)
    planned = {run["run_id"]: run for run in plan.get("runs", [])}
    found, damaged = read_records(root)
    records, tomorrow = {}, datetime.now(UTC) + timedelta(days=1)
    for folder, record in found.items():
        if (record.made_at or LONG_AGO) >= tomorrow:  # as the newest run of its name it would push others out
            date = f"environment.date is {record.made_at.isoformat()}, in the future; correct it"
            damaged[folder] = f"{folder / RECORD_FILE} is not believed: {date}"
        # a planned run whose notebook failed after its record was written is a failure, not a result
        failed = folder.name in planned and read_state(folder).get("status") == "failed"
        # a record below the folder of another one (but the root's) is a part of that run
        is_part = any(parent in found for parent in folder.parents if root in parent.parents)
        if not (folder in damaged or failed or is_part):
            records[folder] = record
    newest = _without_superseded(records, set(planned))
    kept, first, doubtful = {}, {}, []
    for folder, record in newest.items():
        measured = record.made_at is not None and "wall_seconds" in record.cost  # no two of these agree so far
        original = first.setdefault(repr(record), folder) if measured else folder
        if original == folder:
            kept[folder] = record
        else:
            doubtful.append(f"{folder} holds the record of {original}, to the last digit; it counts once")
    others = [folder.name for folder in kept if planned and folder.name not in planned]
    if others:  # of another ablation for one
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        what = "runs are not of this folder's plan, and count"
        if len(others) == 1:
            what = "run is not of this folder's plan, and counts"
        doubtful.append(f"{len(others):,} {what}: {', '.join(others[:5])}{more}")
    failures, readers = [], {}
    told = {folder.name for folder in (*kept, *damaged)}  # a damaged record is no second failure
    for run_id, run in planned.items():
        folder = root / run["folder"]
        state = read_state(folder).get("status")
        if not run["reads_records"]:
            failures += [] if run_id in told else [_failure(run_id, folder)]
        elif state == "done":
            readers[run_id] = folder / HTML_FILE
        elif state == "failed":  # one that is still to run, or is the reader itself, is not missing from the records
            failures.append(_failure(run_id, folder))
    lost = tuple(folder for folder in records if folder not in newest)
    return Collection(root, plan, fault, kept, tuple(damaged.values()), lost, tuple(doubtful), tuple(failures), readers)


def tuning_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """records_table of the tuning runs, with ``folder``, ``family``, ``trained`` (all trained, head included), ``task``
    and ``method_label``.

    Runs of one ``label`` differ in their seed alone: where more differs, the label is made to say it. Where runs differ
    in what is learned, from what or for how long (varying.TASK), ``task`` names that, and ``method_label`` is the label
    without it; else ``task`` is empty. Runs judged on validation images, which have no test accuracy, are not
    comparable and stay out.
    """
    tuning = {folder: record for folder, record in records.items() if is_judged_on_test(record)}
    table = records_table(tuning)
    if table.empty:
        return table
    table["folder"] = list(tuning)
    table["method_label"] = telling_labels(tuning.values(), ignored=TASK)
    table["label"] = telling_labels(tuning.values())
    table["task"] = tasks(tuning.values())
    table["family"] = [family(record.parameters) for record in tuning.values()]
    table["trained"] = table["trainable"] + table["head"]
    return table.sort_values(["trained", "label", "seed"], kind="stable", ignore_index=True)


def is_judged_on_test(record: Record) -> bool:
    """Whether it is a tuning run with a test accuracy."""
    return record.kind == "tuning" and "test_accuracy" in record.metrics


def settings_table(runs: pd.DataFrame, interval: str = "t") -> pd.DataFrame:
    """One row a setting of tuning_table, in its order.

    ``test_accuracy`` is the mean over seeds (runs of one seed, made twice, are averaged first), ``lowest`` and
    ``highest`` the range, ``low`` and ``high`` the ends of the interval of intervals.INTERVALS (NaN for one
    seed), ``by_seed`` the values themselves; ``seeds``, counts, mean costs; ``on_front`` whether no setting of the same
    task trains as little or less and is as accurate or more.
    """
    if runs.empty:
        return pd.DataFrame()
    rows = [_setting(group, interval) for _, group in runs.groupby(["label", "family"], sort=False)]
    table = pd.DataFrame(rows)
    table["on_front"] = False
    for _, group in table.groupby("task", sort=False):
        table.loc[group.index, "on_front"] = on_pareto_front(group["trained"], group["test_accuracy"])
    return table


def _setting(runs: pd.DataFrame, kind: str) -> dict[str, Any]:
    first, by_seed = runs.iloc[0], runs.groupby("seed")["test_accuracy"].mean()
    row = {
        "label": first["label"],
        "family": first["family"],
        "method_label": first.get("method_label", first["label"]),
        "task": first.get("task", ""),
        **accuracy_row(by_seed.tolist(), kind),
        "seeds": [int(seed) for seed in by_seed.index],
        "by_seed": by_seed.tolist(),
    }
    counts = {name: int(first[name]) for name in ("trainable", "head", "trained", "total")}
    costs = ("wall_seconds", "seconds_per_step", "peak_memory_bytes")
    return {**row, **counts, **{name: runs[name].mean() for name in costs if name in runs}}


def history_table(records: Mapping[Path, Record], odd: list[str] | None = None) -> pd.DataFrame:
    """The epochs of all tuning runs in one table, with each run's label, family and seed.

    A run's table that cannot be read, or lacks a column, is left out; ``odd`` gets a line for it.
    """
    return _joined(records, "tuning", "history", ("epoch",), odd)


def curve_table(records: Mapping[Path, Record], odd: list[str] | None = None) -> pd.DataFrame:
    """The reconstruction errors of all decomposition runs in one table, with each run's label and seed; ``odd`` as for
    history_table."""
    return _joined(records, "decomposition", "curve", ("name", "m", "relative_error"), odd)


def family(parameters: Mapping[str, Any]) -> str:
    """What kind of setting a tuning run has, for colours and for comparisons; a method unknown here is its own."""
    method = str(parameters.get("method", OTHER))
    if method == "filter-subspace":
        if parameters.get("train_coefficients"):
            return COEFFICIENTS
        if parameters.get("expansion"):
            return "overcomplete and block atoms" if parameters.get("block") else "overcomplete atoms"
        return "spatial and block atoms" if parameters.get("block") else "spatial atoms"
    if method not in METHODS or method in _SHORT:
        return _SHORT.get(method, method)
    return "head only" if method == "linear" else re.sub(r",? (r=|blocks of|reduction).*", "", METHODS[method].label)


def _joined(
    records: Mapping[Path, Record], kind: str, name: str, needed: tuple[str, ...], odd: list[str] | None
) -> pd.DataFrame:
    tables, left_out = [], [] if odd is None else odd
    wanted = {folder: record for folder, record in records.items() if record.kind == kind}
    for (folder, record), label in zip(wanted.items(), telling_labels(wanted.values()), strict=True):
        path = folder / record.tables.get(name, f"{name}.csv")
        if not path.is_file():
            left_out += [f"{path} is missing, which the record names"] if name in record.tables else []
            continue
        try:
            table = read_table(path)
        except FiltersubError as error:
            left_out.append(str(error))
            continue
        lacking = [name for name in needed if name not in table]
        drawn = [name for name in table if name in ("epoch", "m") or str(name).endswith(("_accuracy", "_error"))]
        no_numbers = [name for name in drawn if not pd.api.types.is_numeric_dtype(table[name])]
        if lacking or no_numbers:
            words = f"has no column {lacking[0]!r}" if lacking else f"holds no numbers in its column {no_numbers[0]!r}"
            left_out.append(f"{path} {words}")
            continue
        own = {"label": label, "family": family(record.parameters), "seed": record.seed}
        tables.append(table.assign(**own, folder=str(folder)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _without_superseded(records: dict[Path, Record], planned: set[str]) -> dict[Path, Record]:
    """Of runs of one name with its digest, copied from several machines into several folders, the newest; then of runs
    in one folder whose names differ in their digest alone the planned one, or the newest where none is planned."""

    def run(folder: Path) -> tuple[Path, str]:
        return folder.parent, _DIGEST.sub("", folder.name)

    once = _newest(records, lambda folder: folder.name)
    records = {folder: each for folder, each in records.items() if folder in once or not _DIGEST.search(folder.name)}
    settled = {run(folder) for folder in records if folder.name in planned}
    rivals = {f: each for f, each in records.items() if _DIGEST.search(f.name) and f.name not in planned}
    kept = {folder for folder in _newest(rivals, run) if run(folder) not in settled}
    return {folder: each for folder, each in records.items() if folder in kept or folder not in rivals}


def _newest(records: dict[Path, Record], name: Callable[[Path], Any]) -> set[Path]:
    """The newest folder of each name, the first of those that are equally new."""
    newest: dict[Any, Path] = {}
    for folder, record in records.items():
        rival = newest.setdefault(name(folder), folder)
        if (record.made_at or LONG_AGO) > (records[rival].made_at or LONG_AGO):
            newest[name(folder)] = folder
    return set(newest.values())


def _failure(run_id: str, folder: Path) -> Failure:
    try:
        error = (folder / ERROR_FILE).read_text(encoding="utf-8").split("\n", 1)[0]
    except OSError:
        return Failure(run_id, "has not run to its end")
    return Failure(run_id, error, folder if (folder / HTML_FILE).is_file() else None)
