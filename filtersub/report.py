"""Records below a folder become one page, ``index.html``: self-contained, and a function of those records alone.

Nothing is trained here and no number is typed in: every sentence, figure and cell is computed from the records.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from . import plots
from .ablation_spec import Spec, load_spec
from .collect import (
    Collection,
    collect,
    curve_table,
    history_table,
    is_judged_on_test,
    settings_table,
    tuning_table,
    varying_parameters,
)
from .files import make_folder, write_text, written_whole
from .notebook_html import TEMPLATES, commit_text, hardware_text, page_css
from .notebook_run import HTML_FILE
from .records import Record
from .report_studies import Section, study_sections

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_NBSP = "\N{NO-BREAK SPACE}"
_WIDE, _NARROW = {"width": 7.4}, {"width": 4.1}
_WITHOUT_ATOMS = ("linear", "full")
_OF_ATOMS = ("atoms", "block", "block_spatial", "solver", "sparsity")  # settings that say nothing of such a run


@dataclass(frozen=True)
class Column:
    """A column of the table of runs: its name in the data, its heading, and how a value is shown."""

    name: str
    heading: str
    kind: str = "text"

    def show(self, value: Any) -> str:
        if value is None or (isinstance(value, float) and pd.isna(value)):
            return "–"
        return _SHOWN[self.kind](value)


_SHOWN = {
    "text": str,
    "number": str,
    "percent": lambda value: f"{100 * value:.1f}{_NBSP}%",
    "count": lambda value: f"{int(value):,}",
    "seconds": lambda value: f"{value:,.0f}{_NBSP}s" if value >= 10 else f"{value:.1f}{_NBSP}s",
    "step": lambda value: f"{value:.3f}{_NBSP}s",
    "memory": lambda value: f"{value / 2**20:,.0f}{_NBSP}MiB",
}


def write_report(root: str | os.PathLike[str], spec: Spec | str | None = None) -> Path:
    """Write ``index.html`` and ``runs.csv`` for the records below ``root``; the path of the page.

    Parameters
    ----------
    root : folder of runs, as run_ablation or ``filtersub tune --out`` make them, or copies of such
    spec : where title and question come from; default the folder's own ``ablation.json``, else general words

    Raises FiltersubError when the folder does not exist or cannot be written, or when its plan is damaged. Damaged
    records are named in the report.
    """
    found = collect(root)
    make_folder(root)
    spec = load_spec(spec) if isinstance(spec, str) else spec
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update({"percent": _SHOWN["percent"], "short": plots.short_count, "count": _SHOWN["count"]})
    page = environment.get_template("report.html.j2").render(**report_content(found, spec))
    runs = tuning_table(found.records)
    with written_whole(Path(root) / "runs.csv") as aside:
        _as_csv(runs, found.root).to_csv(aside, index=False)
    return write_text(Path(root) / "index.html", page)


def report_content(found: Collection, spec: Spec | None = None) -> dict[str, Any]:
    """All that the template shows, computed."""
    runs, curve, sections = tuning_table(found.records), curve_table(_telling_curve(found)), study_sections(found)
    tuning = [record for record in found.records.values() if is_judged_on_test(record)]
    columns = _columns(tuning, runs) if tuning else []
    settings = settings_table(runs) if len(runs) else pd.DataFrame()
    heading = found.plan if spec is None else {"name": spec.name, "title": spec.title, "question": spec.question}
    csv = _as_csv(runs, found.root).to_csv(index=False)
    return {
        "css": page_css("report.css"),
        "policy": POLICY,
        "script": (TEMPLATES / "sort.js").read_text(encoding="utf-8"),
        "name": heading.get("name", found.root.resolve().name),
        "title": heading.get("title", f"Runs in {found.root.resolve().name}"),
        "question": heading.get("question", ""),
        "answer": answer(settings) if len(settings) or not sections else sections[0].text,
        "compared": _compared(settings),
        "figures": _figures(runs, history_table(found.records), curve),
        "decomposed": decomposition_sentence(curve),
        "sections": [_section(section) for section in sections],
        "settings": settings.to_dict("records"),
        "columns": columns,
        "rows": _rows(found, runs, columns),
        "shared": _shared(tuning) if tuning else [],
        "notebooks": _notebooks(found),
        "environments": _environments(found),
        "repeat": _command(found),
        "failures": _failures(found),
        "damaged": [line.replace(f"{found.root}{os.sep}", "") for line in found.damaged],
        "superseded": [folder.name for folder in found.superseded],
        "untested": len(found.of_kind("tuning")) - len(tuning),
        "csv": b64encode(csv.encode()).decode(),
        "date": _last_date(found),
        "total_runs": len(found.records),
    }


def answer(settings: pd.DataFrame) -> str:
    """The finding in a sentence or two, spread and number of seeds named; says so where the runs allow none."""
    parts = _compared(settings)
    atoms = parts.get("atoms")
    if atoms is None:
        return "No run that tunes filter atoms is there yet, so the question stays open."
    share = atoms["trainable"] / atoms["total"]
    tried = int(settings["family"].isin(["spatial atoms", "spatial and block atoms"]).sum())
    best = f"The most accurate of the {tried} atom settings tried" if tried > 1 else "The one atom setting tried"
    text = (
        f"{best}, {atoms['label']}, trains {atoms['trainable']:,} atom parameters ({_percent(share)} of the model's "
        f"{plots.short_count(atoms['total'])}) and a head of {atoms['head']:,}, "
        f"and reaches {_percent(atoms['test_accuracy'])} test accuracy ({_spread(atoms)})"
    )
    others = []
    if "head" in parts:
        others.append(f"{_percent(parts['head']['test_accuracy'])} when the head alone is trained")
    if "full" in parts:
        others.append(f"{_percent(parts['full']['test_accuracy'])} when all {_trained(parts['full'])} are")
    text += f", against {' and '.join(others)}." if others else "."
    if {"head", "full"} <= set(parts):
        gap = parts["full"]["test_accuracy"] - parts["head"]["test_accuracy"]
        if gap > 0:
            closed = (atoms["test_accuracy"] - parts["head"]["test_accuracy"]) / gap
            text += f" That is {100 * closed:.0f}{_NBSP}% of the way from the one to the other."
    return text


def decomposition_sentence(curve: pd.DataFrame) -> str:
    """How well m atoms rebuild the kernels, at the smallest and the largest m; empty without a decomposition."""
    if curve.empty:
        return ""
    median = curve.groupby("m")["relative_error"].median()
    few, many = median.index.min(), median.index.max()
    found = f"Over {curve['name'].nunique()} layers the median relative error of a kernel rebuilt from its atoms"
    if few == many:
        return f"{found} is {_percent(median[few])} at m = {few}."
    return f"{found} falls from {_percent(median[few])} at m = {few} to {_percent(median[many])} at m = {many}."


def _compared(settings: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The settings that the answer compares: ``head``, the best ``atoms``, ``full``, as far as they are there."""
    if settings.empty:
        return {}
    groups = {
        "head": settings[settings["family"] == "head only"],
        "atoms": settings[settings["family"].isin(["spatial atoms", "spatial and block atoms"])],
        "full": settings[settings["family"] == "full tuning"],
    }
    best = {name: rows.loc[rows["test_accuracy"].idxmax()] for name, rows in groups.items() if len(rows)}
    return {name: {**row.to_dict(), "spread": _spread(row)} for name, row in best.items()}


def _spread(setting: Any) -> str:
    count = len(setting["seeds"])
    if count == 1:
        return "one seed, so its spread is not known"
    return f"mean of {count} seeds, {100 * setting['lowest']:.1f} to {_percent(setting['highest'])}"


def _trained(setting: Any) -> str:
    return f"{plots.short_count(setting['trained'])} parameters"


def _percent(value: float) -> str:
    """Two significant digits below one percent, one decimal above."""
    return f"{100 * value:.1f}{_NBSP}%" if value >= 0.01 else f"{100 * value:.2g}{_NBSP}%"


def accuracy_description(runs: pd.DataFrame) -> str:
    """In words what plots.accuracy_vs_parameters shows."""
    points = "; ".join(
        f"{row.label}: {plots.short_count(row.trained)} parameters, {_percent(row.test_accuracy)}"
        for row in settings_table(runs).itertuples()
    )
    return f"Test accuracy against trained parameters on a logarithmic axis. {points}."


def learning_description(history: pd.DataFrame, measure: str = "test_accuracy") -> str:
    """In words what plots.learning_curves shows."""
    last = history.dropna(subset=[measure]).sort_values("epoch").groupby(["label", "seed"], sort=False)[measure].last()
    ends = "; ".join(f"{name}: {_percent(value)}" for name, value in last.groupby("label", sort=False).mean().items())
    return f"{measure.replace('_', ' ').capitalize()} after each epoch, a line a setting. At the end: {ends}."


def error_description(curve: pd.DataFrame) -> str:
    """In words what plots.error_vs_atoms shows."""
    return f"Relative reconstruction error of each layer against the atoms m. {decomposition_sentence(curve)}"


def _figures(runs: pd.DataFrame, history: pd.DataFrame, curve: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Each figure twice, for wide and narrow pages, with its description in words."""
    figures = {}
    if len(runs):
        figures["accuracy"] = _both(plots.accuracy_vs_parameters, runs, accuracy_description(runs))
    measure = next((name for name in ("test_accuracy", "train_accuracy") if _measured(history, name)), None)
    if measure is not None:
        words = learning_description(history, measure)
        figures["learning"] = _both(plots.learning_curves, history, words, measure=measure)
    if len(curve):
        figures["error"] = _both(plots.error_vs_atoms, curve, error_description(curve))
    return figures


def _telling_curve(found: Collection) -> dict[Path, Record]:
    """The decomposition whose error the report draws against m: curves of several do not make one figure.

    Pretrained weights before random ones, then the one with most values of m.
    """
    records = found.of_kind("decomposition").items()
    ordered = sorted(
        records,
        key=lambda item: (
            not item[1].parameters.get("pretrained", True),
            -len(item[1].parameters.get("atoms_grid") or ()),
        ),
    )
    return dict(ordered[:1])


def _section(section: Section) -> dict[str, Any]:
    """A study's section with its figures drawn, twice each."""
    figures = [
        {**_both_of(draw, f"{section.title}. {caption}"), "caption": caption} for draw, caption in section.figures
    ]
    return {**vars(section), "figures": figures}


def _measured(history: pd.DataFrame, name: str) -> bool:
    return name in history and history[name].notna().any()


def _both(draw: Any, table: pd.DataFrame, alt: str, **options: Any) -> dict[str, str]:
    return _both_of(lambda **size: draw(table, **size, **options), alt)


def _both_of(draw: Any, alt: str) -> dict[str, str]:
    return {name: plots.figure_html(draw(**size), alt) for name, size in (("wide", _WIDE), ("narrow", _NARROW))}


def _columns(records: list[Record], runs: pd.DataFrame) -> list[Column]:
    """What the table of runs shows: the settings that differ between runs, then results, counts and costs."""
    # the name of a run tells its method
    varying = [Column(name, name.replace("_", " ")) for name in varying_parameters(records) if name != "method"]
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


def _shared(records: list[Record]) -> list[tuple[str, str]]:
    """What all runs have in common: settings, and the size of the model."""
    varying = {*varying_parameters(records), "seed"}
    same = {name: value for name, value in records[0].parameters.items() if name not in varying}
    shared = [(name, Column(name, "").show(value)) for name, value in same.items()]
    totals = {record.counts["total"] for record in records}
    return shared + [("model parameters", f"{total:,}") for total in totals if len(totals) == 1]


def _rows(found: Collection, runs: pd.DataFrame, columns: list[Column]) -> list[dict[str, Any]]:
    rows = []
    for run in runs.to_dict("records"):
        # Parameters as they were recorded: a table's column turns None and 2 into NaN and 2.0.
        values = {**run, **found.records[run["folder"]].parameters}
        if values.get("method") in _WITHOUT_ATOMS:
            values.update(dict.fromkeys(_OF_ATOMS))
        cells = [
            {
                "text": column.show(values.get(column.name)),
                "value": _sortable(values.get(column.name)),
                "kind": column.kind,
            }
            for column in columns
        ]
        page = _page(run["folder"], found.root)
        rows.append({"label": run["label"], "run": run["run"], "cells": cells, "page": page})
    return rows


def _sortable(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def _page(folder: Path, root: Path) -> str | None:
    page = folder / HTML_FILE
    return page.relative_to(root).as_posix() if page.is_file() else None


def _notebooks(found: Collection) -> list[dict[str, str]]:
    """Pages of the runs that are no tuning runs: decompositions and summaries."""
    others = {folder: record for folder, record in found.records.items() if record.kind != "tuning"}
    pages = [(f"{record.kind}: {record.label}", _page(folder, found.root)) for folder, record in others.items()]
    for run_id, page in found.readers.items():
        notebook = next(run.get("notebook", run_id) for run in found.plan["runs"] if run["run_id"] == run_id)
        pages.append((notebook.lstrip("0123456789_").replace("_", " "), _page(page.parent, found.root)))
    return [{"label": label, "page": page} for label, page in pages if page]


def _environments(found: Collection) -> list[dict[str, Any]]:
    """Each combination of commit, versions and hardware, with how many runs it made."""
    counted = Counter()
    for record in found.records.values():
        environment = record.environment
        versions = ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items() if number)
        counted[commit_text(environment), versions, hardware_text(environment.get("hardware", {}))] += 1
    return [{"commit": key[0], "versions": key[1], "hardware": key[2], "runs": count} for key, count in counted.items()]


def _command(found: Collection) -> str:
    """What makes this report again; no path of this machine beyond the working directory gets into it."""
    root = found.root.resolve()
    shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else Path(root.name)
    source = found.plan.get("source")
    if not source:
        return f"filtersub report {shown.as_posix()}"
    return f"filtersub ablate {source} --out {shown.as_posix()}"


def _failures(found: Collection) -> list[dict[str, str | None]]:
    return [
        {"run": failure.run_id, "error": failure.error, "page": failure.folder and _page(failure.folder, found.root)}
        for failure in found.failures
    ]


def _last_date(found: Collection) -> str:
    dates = sorted(str(record.environment["date"]) for record in found.records.values() if "date" in record.environment)
    return f"{datetime.fromisoformat(dates[-1]):%-d %B %Y}" if dates else ""


def _as_csv(runs: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The table of runs with folders relative to the report's, so that it means the same elsewhere."""
    if runs.empty:
        return runs
    return runs.assign(folder=[folder.relative_to(root).as_posix() for folder in runs["folder"]])
