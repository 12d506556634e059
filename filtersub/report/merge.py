"""Runs made on several machines, copied into one folder: what is done anywhere is done."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..ablation import ABLATION_FILE, read_plan
from ..ablation.notebook_run import read_state
from ..errors import FiltersubError
from ..files import as_path, make_folder, visible, write_json
from ..folder_lock import locked
from ..records import LONG_AGO, read_record

_RUNS = "runs"


@dataclass(frozen=True)
class Merged:
    """The folder, and how many runs were copied into it, were there as new or newer already, and could not be read; a
    line for each plan that could not be read."""

    root: Path
    copied: int
    kept: int
    damaged: int
    plan_faults: tuple[str, ...] = ()


def merge(sources: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Merged:
    """Copy the runs below each of ``sources`` into ``out/runs``; the plans become one.

    Of runs of one name the finished one counts, and of several finished ones the newest; a run that failed on one
    machine and ended well on another is no failure. ``out`` may be an earlier merge: only what is newer is copied.
    A run's folder appears whole or not at all.

    Raises FiltersubError when a source is missing, holds no run, lies in ``out`` or the other way round, when the
    sources are of ablations with different names, or when ``out`` belongs to another ablation or another process writes
    into it.
    """
    root, folders = as_path(out), [as_path(source) for source in sources]
    _check_places(folders, root)
    plans, faults = _plans_of([*folders, root])
    names = dict.fromkeys(plan.get("name") for plan in plans)
    if len(names) > 1:
        raise FiltersubError(
            f"the folders belong to different ablations ({', '.join(map(repr, names))}), whose reports ask different "
            "questions; merge those of one ablation"
        )
    readers = {run["run_id"] for plan in plans for run in plan["runs"] if run.get("reads_records")}
    runs = [(run, _name_of(run, source)) for source in folders for run in _runs_below(source)]
    runs = [(run, name) for run, name in runs if name not in readers]  # they read the records of one machine alone
    if not runs:
        raise FiltersubError(f"no runs below {', '.join(map(str, folders))}")
    copied = kept = damaged = 0
    with locked(root):
        for run, name in runs:
            target = root / _RUNS / name
            damaged += _rank(run)[0] == 0
            if target.exists() and _rank(target) >= _rank(run):
                kept += 1
            else:
                _copy_whole(run, target)
                copied += 1
        if plans:
            write_json(root / ABLATION_FILE, _joined_plan(plans))
    return Merged(root, copied, kept, damaged, faults)


def _check_places(folders: list[Path], root: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise FiltersubError(f"{folder} is not a folder, so there is nothing to merge")
        ours, theirs = root.resolve(), folder.resolve()
        if ours == theirs or ours in theirs.parents or theirs in ours.parents:
            raise FiltersubError(f"--out {root} and {folder} lie in each other; name a folder of its own")


def _runs_below(source: Path) -> list[Path]:
    """Folders of runs: those with a record or a state, but no parts of other runs."""
    holding = {path.parent for name in ("record.json", "run.json") for path in visible(source, name)}
    return sorted(folder for folder in holding if not any(parent in holding for parent in folder.parents))


def _name_of(run: Path, source: Path) -> str:
    """The run's folder below ``runs``; elsewhere its path in words, so that runs of two places stay apart."""
    inner = run.relative_to(source).parts
    inner = inner[1:] if inner[:1] == (_RUNS,) else inner
    return "-".join(inner) or source.resolve().name


def _rank(run: Path) -> tuple[int, datetime]:
    """How much a run is worth: nothing readable, unfinished or failed, done; then its date."""
    state = read_state(run).get("status", "done")
    try:
        record = read_record(run)
    except FiltersubError:
        has_record = (run / "record.json").exists()
        return (0 if has_record else 2 if state == "done" and read_state(run) else 1, LONG_AGO)
    return (2 if state == "done" else 1, record.made_at or LONG_AGO)


def _copy_whole(run: Path, target: Path) -> None:
    make_folder(target.parent)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copytree(run, aside)
        if target.exists():
            shutil.rmtree(target)
        os.replace(aside, target)
    except OSError as error:
        # copytree gathers what went wrong with each file: (from, to, what)
        said = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise FiltersubError(f"cannot copy {run} to {target}: {said}; mend that, then run it again") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _plans_of(folders: list[Path]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The plans that are there, and a line for each that cannot be read: the runs beside it count all the same."""
    plans, faults = [], []
    for folder in folders:
        try:
            plans.append(read_plan(folder))
        except FiltersubError as error:
            faults.append(str(error))
    return [plan for plan in plans if plan], tuple(faults)


def _joined_plan(plans: list[dict[str, Any]]) -> dict[str, Any]:
    """The first plan's heading, and every run planned anywhere once, in its place of the merged folder."""
    runs: dict[str, Any] = {}
    for plan in plans:
        for run in plan["runs"]:
            runs.setdefault(run["run_id"], {**run, "folder": f"{_RUNS}/{run['run_id']}"})
    return {**plans[0], "runs": list(runs.values())}
