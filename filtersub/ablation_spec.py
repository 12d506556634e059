"""What an ablation is: a YAML file of stages, checked as a whole, spread out into runs that know their own identity.

A run is one notebook with one set of parameters. Its ``run_id`` reads like the run and ends in a digest of the
notebook's code, the parameters and the package's version, so a finished run is found again, a changed one made anew.
Comments and layout do not count: an edit of the text alone keeps the run_id, and the run's record with it.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import yaml

from .errors import FiltersubError

#: Parameters that the runner sets itself: each notebook runs in its own folder and writes there.
OUT_DIR, RECORDS_DIR = "out_dir", "records_dir"
RUNS_FOLDER = "runs"
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Stage:
    """Runs of one notebook: each of ``runs``, at each seed, over the stage's fixed ``parameters``.

    ``reads_records`` marks a notebook that looks at the other runs: it comes after them all, is told where they are
    through its parameter ``records_dir``, and is made again whenever one of their records changed.
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    runs: tuple[dict[str, Any], ...] = ({},)
    seeds: tuple[int, ...] | None = None
    reads_records: bool = False


@dataclass(frozen=True)
class Spec:
    """An ablation: what is asked, and the stages that answer it. ``source`` is the preset's name or the file's path."""

    name: str
    title: str
    question: str
    stages: tuple[Stage, ...]
    source: str = ""


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


def load_spec(source: str | os.PathLike[str]) -> Spec:
    """Read an ablation: the name of a preset such as ``quickstart``, or the path of a YAML file.

    Raises FiltersubError when it cannot be read or has an unknown, missing or ill-typed key (naming a near one).
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = _preset(str(source))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FiltersubError(f"cannot read the ablation {source}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FiltersubError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_spec(content, str(source))


def parse_spec(content: Any, source: str = "the ablation") -> Spec:
    """A checked Spec from a mapping such as YAML gives; see load_spec."""
    _check_keys(content, {"name": str, "title": str, "question": str, "stages": list}, source, optional=())
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", content["name"]):
        raise FiltersubError(f"{source}: name {content['name']!r} may hold letters, digits, '.', '_' and '-' only")
    stages = tuple(_stage(stage, f"{source}: stage {n}") for n, stage in enumerate(content["stages"], start=1))
    if not stages:
        raise FiltersubError(f"{source}: stages is empty, so there is nothing to run")
    return Spec(content["name"], content["title"].strip(), " ".join(content["question"].split()), stages, source)


def presets() -> list[str]:
    """Names of the ablations that come with the package."""
    folder = resources.files("filtersub") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _preset(name: str) -> Path:
    if name not in presets():
        raise FiltersubError(f"no ablation {name!r}: neither a file nor a preset{near(name, presets())}")
    return _PACKAGE / "presets" / f"{name}.yaml"


def _stage(content: Any, where: str) -> Stage:
    kinds = {
        "notebook": str,
        "parameters": dict,
        "runs": list,
        "grid": dict,
        "seeds": list,
        "reads_records": bool,
    }
    _check_keys(content, kinds, where, optional=("parameters", "runs", "grid", "seeds", "reads_records"))
    parameters, runs = content.get("parameters", {}), content.get("runs", [{}])
    for number, run in enumerate(runs, start=1):
        if not isinstance(run, dict):
            raise FiltersubError(f"{where}: run {number} must be a mapping of parameters, got {run!r}")
    grid = content.get("grid", {})
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise FiltersubError(f"{where}: grid {name!r} must be a list of values, got {values!r}")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    spread = tuple({**run, **point} for run in runs for point in points)
    if not spread:
        raise FiltersubError(f"{where}: runs is empty; leave it out for a single run")
    seeds = content.get("seeds")
    if seeds is not None and (not seeds or not all(type(seed) is int for seed in seeds)):
        raise FiltersubError(f"{where}: seeds must be a list of integers, got {seeds!r}")
    named = {*parameters, *(name for run in spread for name in run)}
    if seeds is not None and "seed" in named:
        raise FiltersubError(f"{where}: give either seeds or the parameter 'seed', not both")
    if clash := named & {OUT_DIR, RECORDS_DIR}:
        raise FiltersubError(f"{where}: {min(clash)!r} is set by the runner and cannot be given")
    seeds = None if seeds is None else tuple(dict.fromkeys(seeds))
    return Stage(content["notebook"], parameters, spread, seeds, content.get("reads_records", False))


def _check_keys(content: Any, kinds: Mapping[str, type], where: str, optional: Iterable[str]) -> None:
    if not isinstance(content, dict):
        raise FiltersubError(f"{where} must be a mapping with the keys {', '.join(kinds)}")
    for key, value in content.items():
        if key not in kinds:
            raise FiltersubError(f"{where} has an unknown key {key!r}{near(str(key), kinds)}")
        if not isinstance(value, kinds[key]):
            wanted = {str: "text", list: "a list", dict: "a mapping", bool: "true or false"}[kinds[key]]
            raise FiltersubError(f"{where}: {key} must be {wanted}, got {value!r}")
    for key in kinds:
        if key not in content and key not in optional:
            raise FiltersubError(f"{where} has no {key!r}")


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where something known is close, a list of what is known otherwise."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


def find_notebook(name: str) -> Path:
    """A notebook by path, or by name in the checkout's notebooks/ or in the installed package.

    Raises FiltersubError naming near ones when it is not there.
    """
    direct = Path(name)
    if direct.suffix == ".ipynb" and direct.is_file():
        return direct.resolve()
    folders = [_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks"]  # of a wheel; of a checkout
    for folder in folders:
        candidate = folder / f"{name.removesuffix('.ipynb')}.ipynb"
        if candidate.is_file():
            return candidate
    known = sorted({path.stem for folder in folders for path in folder.glob("*.ipynb")})
    raise FiltersubError(f"no notebook {name!r}{near(name, known)}")


def plan(spec: Spec, out: str | os.PathLike[str]) -> list[Run]:
    """All runs of an ablation, those that read records last; nothing is run or written.

    Every run's parameters are held against its notebook's ``parameters`` cell first: FiltersubError for a name that is
    not there or a value of another type.
    """
    root, installed, runs = Path(out).resolve(), _package_version(), []
    for number, stage in enumerate(spec.stages, start=1):
        where = f"{spec.source or spec.name}: stage {number} ({stage.notebook})"
        notebook = find_notebook(stage.notebook)
        known = notebook_parameters(notebook)
        cells = [[cell.cell_type, cell.source] for cell in _read(notebook).cells]
        for needed in (OUT_DIR, *([RECORDS_DIR] if stage.reads_records else [])):
            if needed not in known:
                raise FiltersubError(f"{where}: the notebook has no parameter {needed!r}, which the runner must set")
        for varied in stage.runs:
            for seed in stage.seeds or (None,):
                own = varied if seed is None else {**varied, "seed": seed}
                parameters = {**stage.parameters, **own}
                check_parameters(parameters, known, where)
                digest = _digest([_code(source) for kind, source in cells if kind == "code"], parameters, installed)
                run_id = f"{_readable(notebook, own)}-{digest}"
                folder = root / RUNS_FOLDER / run_id
                runs.append(Run(run_id, notebook, parameters, folder, _digest(cells), stage.reads_records))
    unique = {run.run_id: run for run in runs}
    return sorted(unique.values(), key=lambda run: run.reads_records)


def notebook_parameters(notebook: Path) -> dict[str, tuple[str, Any]]:
    """(type, default) of each name in the cell tagged ``parameters``; the cell is read, never run.

    The type is what the cell states (``block: int | None = None``), else the default's own, and "any" for a bare None.
    papermill's own inspect_notebook is not used: it loses lines with ``=`` in a comment or ``|`` in a type.
    Raises FiltersubError when there is no such cell, or it holds anything but literals given to names.
    """
    tagged = [cell for cell in _read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise FiltersubError(f"{notebook.name} has {len(tagged)} cells tagged 'parameters'; it must have one")
    found = {}
    try:
        for line in ast.parse(tagged[0].source).body:
            target, stated = _assignment(line)
            default = ast.literal_eval(line.value)
            own = "any" if default is None else type(default).__name__
            found[target] = (own if stated is None else ast.unparse(stated).replace(" ", ""), default)
    except (ValueError, SyntaxError, AttributeError) as error:
        raise FiltersubError(f"{notebook.name}: its parameters cell may hold literals only: {error}") from None
    return found


def _assignment(line: ast.stmt) -> tuple[str, ast.expr | None]:
    """(name, stated type) of ``name = literal`` or ``name: type = literal``; ValueError for anything else."""
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
        return line.target.id, line.annotation
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        return line.targets[0].id, None
    raise ValueError(f"line {line.lineno} is no plain assignment")


def check_parameters(parameters: Mapping[str, Any], known: Mapping[str, tuple[str, Any]], where: str) -> None:
    """FiltersubError unless each parameter is one of the notebook's and of its type (an int passes for a float)."""
    for name, value in parameters.items():
        if name not in known:
            raise FiltersubError(f"{where} has no parameter {name!r}{near(name, known)}")
        accepted = known[name][0].split("|")
        kind = "None" if value is None else type(value).__name__
        if "any" in accepted or kind in accepted or (kind == "int" and "float" in accepted):
            _check_finite(name, value, where)
            continue
        # YAML 1.1 reads 1e-3 as text: say so instead of leaving a reader to wonder.
        hint = " (YAML wants 1.0e-3 for 1e-3)" if kind == "str" and re.fullmatch(r"[\d.]+e[+-]?\d+", value) else ""
        raise FiltersubError(f"{where}: {name} must be {' or '.join(accepted)}, got {value!r}{hint}")


def _check_finite(name: str, value: Any, where: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        raise FiltersubError(
            f"{where}: {name} must be a finite number, text or a list of them, got {value!r}"
        ) from None


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:
        raise FiltersubError(f"{notebook.name} is not a readable notebook: {error}") from None


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _code(source: str) -> str:
    """A cell's code without comments and layout; as it is where it is not plain Python."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return source


def _package_version() -> str:
    try:
        return version("filtersub")
    except PackageNotFoundError:  # imported from a checkout that was never installed
        return "unknown"


def _readable(notebook: Path, own: Mapping[str, Any]) -> str:
    """``tuning-filter-subspace-atoms9-seed0``: what sets a run apart from the others of its stage."""
    parts = [re.sub(r"^\d+_", "", notebook.stem)]
    parts += [value if isinstance(value, str) else f"{name}{_short(value)}" for name, value in own.items()]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", "-".join(parts)).strip("-.")[:80]


def _short(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
