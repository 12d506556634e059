"""The output folder of an ablation: whose it is, what is planned in it, damaged records set aside."""

import os
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..files import as_path, make_folder, read_json, write_json
from ..records import RECORD_FILE, read_record
from ..schema import check_not_newer, check_with, joined, shown
from .notebook_run import ASIDE
from .planning import Run
from .run_times import RUNS_FOLDER
from .spec import Spec

ABLATION_FILE = "ablation.json"
_DAMAGED = ".damaged"
_SCHEMA = 1  # of the plan; the first ones named none


def check_folder(out: str | os.PathLike[str], spec: Spec, *, force: bool = False) -> str:
    """A line about a plan in the folder that cannot be read, else nothing.

    Raises FiltersubError where another ablation's plan is in it, unless forced.
    """
    try:
        held = read_plan(as_path(out).resolve()).get("name")
    except FiltersubError as error:
        return str(error)
    if held not in (None, spec.name) and not force:
        raise FiltersubError(
            f"{out} holds the ablation {shown(held)}, not {spec.name!r}; choose another folder, or use --force to plan "
            "this one there (the finished runs of both stay)"
        )
    return ""


def take_folder(out: str | os.PathLike[str], spec: Spec, *, force: bool = False) -> tuple[Path, list[str]]:
    """The folder, made where it is missing, and a line about a damaged plan that was set aside in it.

    Raises FiltersubError where another ablation's plan is in it, unless forced.
    """
    damaged = check_folder(out, spec, force=force)
    root = make_folder(as_path(out).resolve())
    if damaged:
        aside = f"{ABLATION_FILE}{_DAMAGED}"
        try:
            (root / ABLATION_FILE).replace(root / aside)
        except OSError as error:
            raise FiltersubError(f"{damaged}; it cannot be set aside as {aside} ({error.strerror})") from None
        damaged += f"; the damaged one is kept as {aside}"
    for leftover in make_folder(root / RUNS_FOLDER).glob(f"*/{ASIDE}"):  # of a process that was killed
        leftover.unlink()
    return root, [damaged] if damaged else []


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
        check_not_newer(plan, _SCHEMA)
        check_with(PlanSchema, plan, lambda field, said: FiltersubError(f"{joined(field)}{said}"))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise FiltersubError(f"{path} is not a readable plan: {said}; `filtersub ablate` writes it anew") from None
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
    heading = {"schema": _SCHEMA, "name": spec.name, "title": spec.title, "question": spec.question, "source": source}
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
