"""Records below a folder become one page, ``index.html``: self-contained, and a function of those records alone.

Nothing is trained here and no number is typed in: every sentence, figure and cell is computed from the records.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from .. import plots
from ..ablation.notebook_html import TEMPLATES, page_css
from ..ablation.spec import Spec, load_spec
from ..collect import (
    Collection,
    collect,
    curve_table,
    history_table,
    is_judged_on_test,
    settings_table,
    tuning_table,
)
from ..errors import DamagedPlanWarning, check_name
from ..files import as_path, atomic_write, csv_text, make_folder, write_text
from ..folder_lock import sweep
from ..intervals import INTERVALS, PAIRED_TEST, TEST
from ..printable import printable_in_page
from ..records import Record
from ..varying import varying_parameters
from . import sentences
from .against import Comparison, compare
from .effect_words import contrast_rows, effect_sentences, effect_table, headline, records_sentence
from .effects import Effects, all_effects
from .grids import setting_grids
from .interactive import exploration
from .layer_changes import change_rows, layer_atoms, layer_changes, moved_most, pictures
from .numbers import amount, span
from .over_tasks import comparable, history_over_tasks, means_over_tasks, over_tasks
from .provenance import command, environments, failures, last_date, notebooks
from .studies import Section, attempt, study_sections
from .table import SHOWN, data_uri, filters, pair_data, parquet, portable, shared_settings, table_columns, table_rows

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(
    root: str | os.PathLike[str],
    spec: Spec | str | None = None,
    *,
    against: str | os.PathLike[str] | None = None,
    interval: str = "t",
) -> Path:
    """Write ``index.html``, ``runs.csv`` and ``runs.parquet`` for the records below ``root``; the path of the page.

    Parameters
    ----------
    root : folder of runs, as run_ablation or ``filtersub tune --out`` make them, or copies of such
    spec : where title and question come from; default the folder's own ``ablation.json``, else general words
    against : folder of an earlier report; the page then says what changed beyond noise
    interval : how the uncertainty of a mean over seeds is computed, a name in intervals.INTERVALS

    Raises FiltersubError when a folder does not exist or cannot be written, for an unknown interval, and where
    ``against`` holds no record. Damaged records and a damaged plan are named in the report. Warns DamagedPlanWarning.
    """
    found = collect(root)
    if found.plan_fault:
        warnings.warn(f"{found.plan_fault}; the report is made without it", DamagedPlanWarning, stacklevel=2)
    sweep(make_folder(root), deep=False)
    spec = load_spec(spec) if isinstance(spec, str) else spec
    content = report_content(found, spec, against=against, interval=interval)
    page = _environment().get_template("report.html.j2").render(**content)
    runs = portable(tuning_table(found.records), found.root)
    with atomic_write(as_path(root) / "runs.csv") as aside:
        aside.write_bytes(csv_text(runs).encode("utf-8"))
    with atomic_write(as_path(root) / "runs.parquet") as aside:
        aside.write_bytes(parquet(runs))
    return write_text(as_path(root) / "index.html", page)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    shown = {"percent": SHOWN["percent"], "count": SHOWN["count"], "short": plots.short_count}
    environment.filters.update({**shown, "span": lambda pair: span(*pair), "amount": amount})
    return environment


def _shown(value: Any) -> Any:
    """Texts of records without control characters and bidi marks; markup that is safe stays as it is."""
    return printable_in_page(value) if type(value) is str else value


def report_content(
    found: Collection,
    spec: Spec | None = None,
    *,
    against: str | os.PathLike[str] | None = None,
    interval: str = "t",
) -> dict[str, Any]:
    """All that the template shows, computed; see write_report."""
    check_name("interval", interval, INTERVALS)
    odd: list[str] = []  # what cannot be shown of a record, one line each
    runs, curve = tuning_table(found.records), curve_table(_telling_curve(found), odd)
    sections = study_sections(found, odd)
    tuning = [record for record in found.records.values() if is_judged_on_test(record)]
    columns = table_columns(tuning, runs) if tuning else []
    rows = table_rows(found, runs, columns)
    settings = settings_table(runs, interval)
    effects = attempt("what the parameters do", odd, all_effects, found) or []
    history = _in_order(history_table(found.records, odd), settings)
    several = len(settings) > 0 and settings["task"].nunique() > 1
    over = (means_over_tasks(runs, settings), history_over_tasks(history, runs, settings)) if several else None
    drawn = over or (runs, history)
    changes = layer_changes(runs, odd)
    atoms = attempt("atoms of layers", odd, layer_atoms, runs, rows, odd) or []
    shown = (settings, runs, history, columns, rows, changes, atoms)
    explored = attempt("the charts to explore", odd, exploration, *shown)
    pairs = attempt("runs beside each other", odd, pair_data, found, runs, columns, rows) if explored else None
    heading = found.plan if spec is None else {"name": spec.name, "title": spec.title, "question": spec.question}
    taken, here = portable(runs, found.root), f"{found.root}{os.sep}"
    return {
        "css": page_css("report.css"),
        "policy": POLICY,
        "scripts": _scripts("address.js", "table.js", "copy.js"),
        "explore": explored,
        "pairs": pairs,
        "explore_scripts": _scripts("explore.js", *(["pair.js"] if pairs else [])),
        "name": heading.get("name", found.root.resolve().name),
        "title": heading.get("title", f"Runs in {found.root.resolve().name}"),
        "question": heading.get("question", ""),
        "answer": _answer(found, settings, sections, effects, interval),
        "compared": sentences.compared(settings, interval),
        "interval": INTERVALS[interval],
        "test": TEST,
        "figures": _figures(*drawn, curve, interval),
        "effects": [_effects(one, several=len(effects) > 1) for one in effects],
        "paired": PAIRED_TEST,
        "decomposed": sentences.decomposition_sentence(curve),
        "has_atoms": any(record.parameters.get("method") == "filter-subspace" for record in tuning),
        "changes": change_rows(changes),
        "atoms": attempt("atoms before and after tuning", odd, _atoms, settings, atoms),
        "grids": _grids(runs, varying_parameters(tuning), interval),
        "tasks": _tasks(settings),
        "sections": [drawn for section in sections if (drawn := attempt(section.title, odd, _section, section))],
        "settings": settings.to_dict("records"),
        "tones": {name: _tone(style[0]) for name, style in plots.families_style(settings.get("family", ())).items()},
        "columns": columns,
        "rows": rows,
        "filters": filters(columns, rows),
        "shared": shared_settings(tuning) if tuning else [],
        "comparison": None if against is None else _comparison(compare(found, against)),
        "notebooks": notebooks(found),
        "environments": environments(found),
        "repeat": command(found),
        "failures": failures(found),
        "plan_fault": found.plan_fault.replace(here, ""),
        "damaged": [line.replace(here, "") for line in found.damaged],
        "odd": [line.replace(here, "") for line in odd],
        "superseded": [folder.name for folder in found.superseded],
        "doubtful": [line.replace(here, "") for line in found.doubtful],
        "counts": found.counts,
        "csv": data_uri(csv_text(taken).encode(), "text/csv"),
        "parquet": data_uri(parquet(taken), "application/vnd.apache.parquet"),
        "date": last_date(found),
        "total_runs": sum(found.counts.values()),
    }


def _tone(colour: str) -> str:
    """The colour of a family on a white page and on a black one, as properties of a style."""
    return f"--tone: {colour}; --dark: {plots.lighter_colour(colour)}"


def _scripts(*names: str) -> list[str]:
    return [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]


def _answer(
    found: Collection, settings: pd.DataFrame, sections: list[Section], effects: list[Effects], interval: str
) -> str:
    """The finding, then what each varied parameter does, whatever kind of record there is."""
    if len(settings):
        text = sentences.answer(settings, interval)
    elif sections:
        return sections[0].text
    elif found.records and not effects:
        text = records_sentence(list(found.records.values()))
    else:
        text = "" if effects else sentences.answer(settings, interval)
    return f"{text} {headline(effects)}".strip()


def _in_order(history: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """The epochs in the order of the settings, so that every chart gives a setting the same colour."""
    if history.empty or settings.empty:
        return history
    places = {label: n for n, label in enumerate(settings["label"])}
    return history.iloc[history["label"].map(places).fillna(len(places)).argsort(kind="stable")]


def _effects(found: Effects, several: bool) -> dict[str, Any]:
    """A part of the section on what the parameters do: sentences, figure and table."""
    rows, texts = contrast_rows(found), effect_sentences(found)
    measure = plots.metric_words(found.measure)
    table = effect_table(found)
    return {
        "title": f"{found.title}: {measure}"[0].upper() + f"{found.title}: {measure}"[1:] if several else "",
        "measure": measure,
        "texts": texts,
        "rows": rows,
        "figure": _both(plots.effects, " ".join(texts), table, measure=found.measure) if len(table) else None,
    }


def _figures(
    runs: pd.DataFrame, history: pd.DataFrame, curve: pd.DataFrame, interval: str
) -> dict[str, dict[str, str]]:
    """Each figure twice, for wide and narrow pages, with its description in words: of runs that compare, so of one
    task, or means over several."""
    figures = {}
    if len(runs):
        words = sentences.accuracy_description(runs)
        figures["accuracy"] = _both(plots.accuracy_vs_parameters, words, runs, interval=interval)
    measure = sentences.curve_measure(history)
    if measure is not None:
        words = sentences.learning_description(history, measure)
        figures["learning"] = _both(plots.learning_curves, words, history, measure=measure)
    if len(curve):
        figures["error"] = _both(plots.error_vs_atoms, sentences.error_description(curve), curve)
    return figures


def _grids(runs: pd.DataFrame, varying: list[str], interval: str) -> list[dict[str, Any]]:
    """Heat maps of the grids of settings among the runs."""
    drawn = []
    for grid in setting_grids(runs, varying, interval):
        words = sentences.grid_description(grid.cells, grid.rows, grid.columns)
        figure = _both(plots.setting_grid, words, grid.cells, rows=grid.rows, columns=grid.columns)
        drawn.append({**figure, "title": f"{grid.rows} and {grid.columns}", "fixed": grid.fixed, "words": words})
    return drawn


def _atoms(settings: pd.DataFrame, atoms: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The layers of the most accurate setting whose atoms are known that moved most, drawn; None without any."""
    known = {row["setting"] for row in atoms}
    told = settings[settings["label"].isin(known)] if len(settings) else settings
    if told.empty:
        return None
    if told["task"].nunique() > 1:  # of the best setting over tasks, not of the easiest task
        means = over_tasks(settings)
        ours = means[means["label"].isin(told["method_label"])] if len(means) else means
        best = ours.loc[ours["test_accuracy"].idxmax(), "label"] if len(ours) else told["method_label"].iloc[0]
        told = told[told["method_label"] == best].iloc[:1]
    layers = moved_most(atoms, told.loc[told["test_accuracy"].idxmax(), "label"])
    run, names = layers[0]["run"], ", ".join(one["layer"] for one in layers)
    words = f"Filter atoms of {run}, before and after tuning, in {names}"
    return {**_both(plots.atom_changes, words, {one["layer"]: pictures(one) for one in layers}), "run": run}


def _tasks(settings: pd.DataFrame) -> dict[str, Any]:
    """Accuracy by method and task, with the means over tasks of settings that compare; empty for one task."""
    if settings.empty or settings["task"].nunique() < 2:
        return {}
    table = settings.pivot_table(index="method_label", columns="task", values="test_accuracy", sort=False)
    common = comparable(settings)
    rows = [
        {
            "label": name,
            "family": settings.loc[settings["method_label"] == name, "family"].iloc[0],
            "values": [None if pd.isna(value) else value for value in values],
            "best": [bool(value == table[task].max()) for task, value in zip(table.columns, values, strict=True)],
            "mean": common.loc[name].mean() if name in common.index else None,
        }
        for name, values in zip(table.index, table.to_numpy().tolist(), strict=True)
    ]
    return {"names": list(table.columns), "rows": rows, "common": common.shape[1]}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    rows = []
    for row in comparison.changes.to_dict("records"):
        values = {name: amount(row[name], row["measure"]) for name in ("old", "new")}
        gaps = {name: amount(row[name], row["measure"], signed=True) for name in ("difference", "low", "high")}
        rows.append({**row, **values, **gaps, "p": "–" if pd.isna(row["p_value"]) else f"{row['p_value']:.2g}"})
    return {**vars(comparison), "sentence": comparison.sentence, "rows": rows}


def _telling_curve(found: Collection) -> dict[Path, Record]:
    """The decomposition whose error the report draws against m: curves of several do not make one figure.

    Pretrained weights before random ones, then the one with most values of m.
    """

    def rank(pair: tuple[Path, Record]) -> tuple[bool, int]:
        asked = pair[1].parameters
        return not asked.get("pretrained", True), -len(asked.get("atoms_grid") or ())

    return dict(sorted(found.of_kind("decomposition").items(), key=rank)[:1])


def _section(section: Section) -> dict[str, Any]:
    """A study's section with its figures drawn, twice each."""
    figures = [{**_both(draw, f"{section.title}. {caption}"), "caption": caption} for draw, caption in section.figures]
    return {**vars(section), "figures": figures}


def _both(draw: Any, alt: str, *tables: Any, **options: Any) -> dict[str, str]:
    """The figure of these tables for wide and for narrow pages."""
    sizes = {"wide": 7.4, "narrow": 4.1}
    return {name: plots.figure_html(draw(*tables, width=width, **options), alt) for name, width in sizes.items()}
