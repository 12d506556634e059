"""A Spec spread out into runs that know their own identity: notebook, parameters, folder.

A run's ``run_id`` reads like the run and ends in a digest of the notebook's code, that of the files beside it that it
imports, the parameters and the package's version, so a finished run is found again, a changed one made anew. Comments
and layout do not count: an edit of the text alone keeps the run_id, and the run's record with it.
"""

import ast
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..files import as_path
from ..former_names import SETTINGS, by_name_of_today
from ..version import package_version
from ..yaml_file import Place
from .kept_results import KeptResults, kept_results
from .notebook_contract import OUT_DIR, RECORDS_DIR, check_parameters, find_notebook, notebook_parameters
from .notebook_file import read_notebook
from .own_files import own_files
from .run_times import RUNS_FOLDER
from .settings_check import SettingsCheck
from .spec import Spec, Stage, mentioned


@dataclass(frozen=True)
class Run:
    """One notebook with one set of parameters, and the folder that holds all it makes.

    ``text`` is a digest of the notebook as written, words and all: an executed copy with another one is out of date.
    """

    run_id: str
    notebook: Path
    parameters: dict[str, Any]
    folder: Path
    text: str
    reads_records: bool = False


def plan(
    spec: Spec, out: str | os.PathLike[str], on_run: Callable[[str, int, int], None] = lambda what, done, total: None
) -> list[Run]:
    """All runs of an ablation, those that read records last; nothing is run or written.

    ``on_run`` is called with ("checked runs", runs that are checked, runs before conditions).

    Every run's parameters are held against its notebook's ``parameters`` cell first: FiltersubError, with the line of
    the file, for a name that is not there, a value of another type, a run that is there twice, and conditions that
    leave no run.
    """
    root, installed = as_path(out).resolve(), package_version()
    unique: dict[str, tuple[Run, Place]] = {}
    checked = itertools.count(1)
    for stage in spec.stages:
        with kept_results() as kept:
            told = partial(_stage_runs, stage, root, installed, kept)
            found = list(told(lambda: on_run("checked runs", next(checked), spec.n_runs)))
        if not found:
            raise stage.place.error(f"its conditions drop all {len(stage.runs)} runs of {stage.notebook}")
        for run, place in found:
            if run.run_id in unique:
                first = unique[run.run_id][1].line
                same = "" if first is None else f", the first on line {first}"
                raise place.error(f"the run {run.run_id} is there twice{same}; drop one of them")
            unique[run.run_id] = run, place
    return sorted((run for run, _ in unique.values()), key=lambda run: run.reads_records)


def _stage_runs(
    stage: Stage, root: Path, installed: str, kept: KeptResults, on_checked: Callable[[], None]
) -> Iterator[tuple[Run, Place]]:
    try:
        notebook = find_notebook(stage.notebook)
        known = notebook_parameters(notebook)
    except FiltersubError as error:
        raise stage.place.first(("notebook",)).error(str(error)) from None
    cells = read_notebook(notebook).cells
    code = [_code(cell.source) for cell in cells if cell.is_code]
    written = json.dumps([[[cell.cell_type, cell.source] for cell in cells]])
    text = hashlib.sha256(written.encode()).hexdigest()[:8]
    for needed in (OUT_DIR, *([RECORDS_DIR] if stage.reads_records else [])):
        if needed not in known:
            raise stage.place.error(f"{notebook.name} has no parameter {needed!r}, which the runner must set")
    stage = _by_names_of_today(stage, known)
    for which in ("skip", "only"):
        _check_conditions(stage, which, known, notebook.name)
    defaults = {name: default for name, (_, default) in known.items()}
    settings = SettingsCheck([cell.source for cell in cells if cell.is_code and not cell.has_parameters], known)
    own = own_files(notebook.parent, (cell.source for cell in cells if cell.is_code))
    code += [
        f"{path.relative_to(notebook.parent).as_posix()}\n{_code(path.read_text('utf-8', 'replace'))}" for path in own
    ]
    begun, checked = hashlib.sha256(f"[{json.dumps(code)}, ".encode()), set()  # the code is hashed once
    for varied, origin in zip(stage.runs, stage.origins, strict=True):
        for seed in stage.seeds or (None,):
            on_checked()
            own = varied if seed is None else {**varied, "seed": seed}
            parameters = {**stage.parameters, **own}
            for name, value in parameters.items():
                if (kind := (name, repr(value))) not in checked:
                    _check_value(stage, origin, name, value, known, notebook.name)
                    checked.add(kind)
            if not stage.keeps({**defaults, **parameters}):
                continue
            check = partial(_check_settings, stage, origin, settings, {**defaults, **parameters}, notebook.name)
            digest = begun.copy()
            digest.update(f"{json.dumps(parameters, sort_keys=True)}, {json.dumps(installed)}]".encode())
            kept.result("settings of a run", digest.hexdigest(), check)
            run_id = f"{_readable(notebook, own)}-{digest.hexdigest()[:8]}"
            run = Run(run_id, notebook, parameters, root / RUNS_FOLDER / run_id, text, stage.reads_records)
            yield run, stage.place.first(("runs", origin))


def _by_names_of_today(stage: Stage, known: Mapping[str, Any]) -> Stage:
    """The stage with parameters that it gives under names of before, where the notebook has those of today alone."""
    names = {former: name for former, name in SETTINGS.items() if name in known and former not in known}
    renamed = partial(by_name_of_today, source=stage.notebook, names=names)
    runs, skip, only = (tuple(map(renamed, many)) for many in (stage.runs, stage.skip, stage.only))
    return replace(stage, parameters=renamed(stage.parameters), runs=runs, skip=skip, only=only)


def _check_value(stage: Stage, origin: int, name: str, value: Any, known: Mapping[str, Any], notebook: str) -> None:
    try:
        check_parameters({name: value}, known, notebook)
    except FiltersubError as error:
        place = stage.place.first(("runs", origin, name), ("grid", name), ("parameters", name), ("seeds",))
        raise place.error(str(error)) from None


def _check_settings(
    stage: Stage, origin: int, settings: SettingsCheck, parameters: Mapping[str, Any], notebook: str
) -> None:
    try:
        settings.check(parameters)
    except FiltersubError as error:
        raise stage.place.first(("runs", origin), ("grid",), ("parameters",)).error(f"{notebook}: {error}") from None


def _check_conditions(stage: Stage, which: str, known: Mapping[str, Any], notebook: str) -> None:
    """Every parameter that is named must be the notebook's, every value one that it could have."""
    for number, pattern in enumerate(getattr(stage, which)):
        for name, wanted in pattern.items():
            place = stage.place.at(which, number, name)
            try:
                values, others = mentioned(wanted)
                for value in values:
                    check_parameters({name: value}, known, notebook)
                for other in (name, *others):
                    if other not in known:
                        check_parameters({other: None}, known, notebook)
            except ValueError as error:
                raise place.error(f"{which}: {error}") from None


def _code(source: str) -> str:
    """A cell's code without comments and layout; as it is where it is not plain Python."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return source


def _readable(notebook: Path, own: Mapping[str, Any]) -> str:
    """``tuning-filter-subspace-atoms9-seed0``: what sets a run apart from the others of its stage."""
    parts = [re.sub(r"^\d+_", "", notebook.stem)]
    parts += [value if isinstance(value, str) else f"{name}{_short(value)}" for name, value in own.items()]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", "-".join(parts)).strip("-.")[:80]


def _short(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
