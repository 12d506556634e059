"""The output folder of an ablation: whose it is, what is planned in it, damaged records set aside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..files import make_folder, read_json, write_json
from ..records import RECORD_FILE, read_record
from ..schema import check
from .notebook_run import ASIDE
from .planning import Run
from .run_times import RUNS_FOLDER
from .spec import Spec

ABLATION_FILE = "ablation.json"
_DAMAGED = ".damaged"


def take_folder(out: str | os.PathLike[str], spec: Spec, *, force: bool = False) -> Path:
    """The folder, made where it is missing. FiltersubError where another ablation's plan is in it, unless forced."""
    path = Path(out).resolve() / ABLATION_FILE
    try:
        held = read_plan(path.parent).get("name")
    except FiltersubError:  # damaged: kept for whoever wants to look, and written anew
        path.replace(path.with_name(path.name + _DAMAGED))
        held = None
    if held not in (None, spec.name) and not force:
        raise FiltersubError(
            f"{out} holds the ablation {held!r}, not {spec.name!r}; choose another folder, or use --force to plan this "
            "one there (the finished runs of both stay)"
        )
    root = make_folder(Path(out).resolve())
    for leftover in make_folder(root / RUNS_FOLDER).glob(f"*/{ASIDE}"):  # of a process that was killed
        leftover.unlink()
    return root


def read_plan(root: Path) -> dict[str, Any]:
    """The content of a folder's ``ablation.json``; empty where there is none.

    Raises FiltersubError, naming file, field and value, for a file that is no plan.
    """
    path = root / ABLATION_FILE
    if not path.exists():
        return {}
    from .schemas import PlanSchema

    try:
        plan = read_json(path)
        check(PlanSchema, plan, "it")
    except (OSError, ValueError) as error:
        raise FiltersubError(f"{path} is not a readable plan: {error}; run the ablation again to make it") from None
    return plan


def write_plan(spec: Spec, runs: list[Run], root: Path) -> None:
    """What a report needs to know of the plan; paths are relative to ``root``, so the folder can move."""
    planned = [
        {
            "run_id": run.run_id,
            "notebook": run.notebook.stem,
            "parameters": run.parameters,
            "reads_records": run.reads_records,
            "folder": run.folder.relative_to(root).as_posix(),
        }
        for run in runs
    ]
    source = Path(spec.source).name if Path(spec.source).is_absolute() else spec.source
    heading = {"name": spec.name, "title": spec.title, "question": spec.question, "source": source}
    write_json(root / ABLATION_FILE, {**heading, "runs": planned})


def set_aside_damaged(runs: list[Run]) -> list[str]:
    """Rename each planned run's record that cannot be read, so that the run is made again; a line for each."""
    lines = []
    for run in runs:
        path = run.folder / RECORD_FILE
        if not path.exists():
            continue
        try:
            read_record(run.folder)
        except FiltersubError as error:
            aside = path.with_name(path.name + _DAMAGED)
            path.replace(aside)
            lines.append(f"{error}; set aside as {aside.name}, the run is made again")
    return lines
