"""What a report shows of runs that ask more than one setting: solvers, the penalty, whole models, where they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from .. import plots
from ..collect import Collection
from ..errors import FiltersubError
from ..records import Record
from ..studies import (
    allotment_groups,
    allotment_pairs,
    allotment_sentence,
    attribution_sentence,
    model_sentence,
    penalty_sentence,
    sharing_sentence,
    solver_sentence,
    span_sentence,
    storage_sentence,
    study_tables,
)
from .generation import generation_content

Draw = Callable[..., Figure]
T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """A heading, what was found in words, figures with their captions, and a table of cells with its headings."""

    title: str
    text: str
    figures: list[tuple[Draw, str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""


def study_sections(found: Collection, odd: list[str] | None = None) -> list[Section]:
    """Sections for the records of studies in a folder, in the order: whole models, formats, penalty, solvers, shared
    dictionaries, the span of coefficients, budgets, maps, generation.

    A record that lacks what its section shows is left out of it, and ``odd`` gets a line that says so.
    """
    odd = [] if odd is None else odd
    models = [pair for pair in _with_tables(found, "decomposition", odd) if "network" in pair[1][1]]
    sections: list[Section] = []
    for folder, pair in models:
        others = [other for _, other in models if other is not pair]
        if made := attempt(str(folder), odd, _model_sections, [pair, *others]):
            sections += made
            break
    for kind, section in _SECTIONS.items():
        for folder, pair in _with_tables(found, kind, odd):
            made = attempt(str(folder), odd, section, *pair)
            sections += [] if made is None else [made]
    generated = attempt("the section on generation", odd, generation_content, found)
    return sections if generated is None else [*sections, Section(**generated)]


def attempt(what: str, odd: list[str], make: Callable[..., T], *arguments: Any) -> T | None:
    """What ``make`` returns; None where a record holds something it cannot show, with a line in ``odd``: a record of
    another version, or of a notebook of one's own, must not cost the reader the rest of the report."""
    try:
        return make(*arguments)
    except Exception as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        odd.append(f"{what} is left out: {' '.join(reason.split())[:200]}")
        return None


def _with_tables(
    found: Collection, kind: str, odd: list[str]
) -> list[tuple[Path, tuple[Record, dict[str, pd.DataFrame]]]]:
    pairs = []
    for folder, record in found.of_kind(kind).items():
        try:
            pairs.append((folder, (record, study_tables(folder))))
        except FiltersubError as error:  # a folder copied without its tables: its record still counts elsewhere
            odd.append(str(error))
    # trained weights first: what follows shows one model in full, and random ones say little
    return sorted(pairs, key=lambda pair: not pair[1][0].parameters.get("pretrained", True))


def _model_sections(models: list[tuple[Record, dict[str, pd.DataFrame]]]) -> list[Section]:
    record, tables = models[0]
    error = record.metrics["relative_error"]
    text = f"{record.label}: {model_sentence(tables['layers'], tables['costs'], tables['network'], error)}"
    figures = [
        (_drawn(plots.layer_costs, tables["costs"]), f"Learning the atoms of each layer of {record.label}."),
        (
            _drawn(plots.layer_errors, tables["subspace"], tables.get("outputs")),
            "Errors of each layer's kernels, of the best subspace of m dimensions, and of its output on real images.",
        ),
    ]
    if "agreement" in tables["network"]:
        means = tables["network"].groupby("m", as_index=False).mean()
        words = f"What the rebuilt network keeps, over {record.parameters['n_images']} crops of photographs."
        figures.append((_drawn(plots.network_vs_atoms, means), words))
    headings = [
        "Model",
        "Layers",
        "Kernels",
        "Rounds of all starts",
        "Seconds",
        "Error",
        "Output error",
        "Same class",
    ]
    rows = [_model_row(*pair) for pair in models]
    note = (
        "Rounds and seconds are of learning all atoms at the m named, all starts together; the error is relative, over "
        "all kernels. Output error is the median over layers, on real images. Same class: images that the rebuilt "
        "network judges as before."
    )
    sections = [Section("What decomposing a whole model takes, and what is kept", text, figures, headings, rows, note)]
    if "storage" in tables:
        drawn = [(_drawn(plots.storage_formats, tables["storage"]), f"Layers of {record.label}.")]
        sections.append(Section("Beside CP and Tucker at equal storage", storage_sentence(tables["storage"]), drawn))
    return sections


def _model_row(record: Record, tables: dict[str, pd.DataFrame]) -> list[str]:
    metrics = record.metrics
    return [
        record.label,
        f"{len(tables['layers'])}",
        f"{int(tables['layers']['rows'].sum()):,}",
        f"{record.cost['decomposition_iterations']:,}",
        f"{record.cost['decomposition_seconds']:.1f}",
        f"{metrics['relative_error']:.1%}",
        f"{metrics['median_output_error']:.1%}" if "median_output_error" in metrics else "–",
        f"{metrics['agreement']:.0%}" if "agreement" in metrics else "–",
    ]


def _penalty_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    total, accuracy = tables["total"], tables["accuracy"]
    drawn = [(_drawn(plots.penalty_path, total, accuracy), f"{record.label}; bands are the range over seeds.")]
    means = total.groupby("l1_penalty")[["density", "relative_error", "nonzeros", "rounds", "seconds"]].mean()
    tuned = accuracy.groupby("l1_penalty")["test_accuracy"].mean()
    headings = [
        "Penalty l",
        "Nonzero",
        "Nonzero coefficients",
        "Relative error",
        "Rounds",
        "Seconds",
        "Accuracy, tuned",
    ]
    rows = [
        [
            f"{value:g}",
            f"{row['density']:.1%}",
            f"{row['nonzeros']:,.0f}",
            f"{row['relative_error']:.1%}",
            f"{row['rounds']:,.0f}",
            f"{row['seconds']:.1f}",
            f"{tuned[value]:.1%}" if value in tuned.index else "–",
        ]
        for value, row in means.iterrows()
    ]
    note = "Means over seeds. l is half the paper's λ, in the units of the weights."
    return Section("What the penalty does", penalty_sentence(total, accuracy), drawn, headings, rows, note)


def _solver_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    table, gaps = tables["solvers"].astype({"note": object}).fillna({"note": ""}), tables["gaps"]
    first = gaps[gaps["seed"] == record.seed]
    asked = record.parameters
    caption = (
        f"{record.counts['rows']:,} kernels of {asked['patch_size']} numbers, {record.counts['atoms']} atoms, "
        f"l = {asked['l1_penalty']:g}, seed {record.seed}. Lines: solvers of many equal steps. Hollow marks: solvers "
        "of another problem."
    )
    means = table[table["note"] == ""].groupby("solver", sort=False)
    medians = means[["relative_gap", "kkt_over_penalty", "seconds", "iterations", "rows_per_second"]].median()
    headings = ["Solver", "Gap to the optimum", "KKT violation / l", "Seconds", "Iterations", "Kernels a second"]
    rows = [
        [
            str(name),
            f"{row['relative_gap']:.0e}",
            f"{row['kkt_over_penalty']:.0e}",
            f"{row['seconds']:.4f}",
            f"{row['iterations']:,.0f}",
            f"{row['rows_per_second']:,.0f}",
        ]
        for name, row in medians.iterrows()
    ]
    count = table["seed"].nunique()
    note = f"Medians over {count} seeds." if count > 1 else "One seed."
    figures = [(_drawn(plots.solver_gaps, first), caption)]
    return Section(
        "Which solver reaches the optimum, and how soon", solver_sentence(table), figures, headings, rows, note
    )


def _sharing_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    totals, accuracy = tables["totals"], tables["accuracy"]
    figures = [(_drawn(plots.sharing_errors, totals), f"{record.label}; bands are the range over seeds.")]
    tuned = accuracy.groupby("sharing")["test_accuracy"].mean()
    means = totals.groupby(["m", "sharing"])[["dictionaries", "atom_numbers", "relative_error"]].mean()
    headings = ["m", "Dictionaries", "How many", "Numbers in them", "Relative error", "Accuracy, tuned"]
    rows = [
        [
            f"{m}",
            "one a layer" if kind == "own" else "shared",
            f"{row['dictionaries']:,.0f}",
            f"{row['atom_numbers']:,.0f}",
            f"{row['relative_error']:.1%}",
            f"{tuned[kind]:.1%}" if m == record.parameters["atoms"] and kind in tuned.index else "–",
        ]
        for (m, kind), row in means.iterrows()
    ]
    note = "Means over seeds. Codes, and the changes of atoms that are tuned, are each layer's own in both."
    return Section("One dictionary for many layers", sharing_sentence(totals, accuracy), figures, headings, rows, note)


def _span_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    totals = tables["totals"]
    figures = [
        (_drawn(plots.span_shares, totals), f"{record.label}; bars are the range over seeds."),
        (_drawn(plots.span_layers, tables["layers"]), f"Layer by layer at m = {totals['m'].max()}; 1 is chance."),
    ]
    columns = ["free", "trained", "share", "expected", "covered", "share_of_all"]
    headings = ["Coefficients", "m", "Dimensions", "Trained", "Share", "Of a random change", "Covered", "Share of all"]
    rows = [
        [setting, f"{m}", *(f"{row[name]:,.0f}" for name in columns[:2]), *(f"{row[name]:.2%}" for name in columns[2:])]
        for (setting, m), row in totals.groupby(["setting", "m"], sort=False)[columns].mean().iterrows()
    ]
    note = (
        "Means over seeds. Dimensions: of what atoms can reach. Covered: the part of the squared change of all kernels "
        "but the head's that lies in layers that take part."
    )
    return Section("What atoms could have learnt of full tuning", span_sentence(totals), figures, headings, rows, note)


def _allotment_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    runs, pairs = tables["runs"], allotment_pairs(tables["runs"])
    words = f"{record.label}; small marks are seeds, the panels name the budgets."
    figures = [
        (_drawn(plots.equal_accuracies, allotment_groups(runs)), words),
        (_drawn(plots.allotted_layers, tables["layers"]), "What each layer gets of each budget."),
    ]
    means = runs.groupby(["budget", "kind", "setting"], sort=False)[["trainable", "score", "test_accuracy"]].mean()
    headings = ["Budget", "Setting", "Trained", "Gradient followed", "Accuracy"]
    rows = [
        [f"{budget:,}", setting, f"{row['trainable']:,.0f}", f"{row['score']:.2%}", f"{row['test_accuracy']:.1%}"]
        for (budget, _, setting), row in means.iterrows()
    ]
    note = "Means over seeds. The setting for all layers is chosen by its test accuracy, which favours it."
    return Section("A budget allotted layer by layer", allotment_sentence(pairs), figures, headings, rows, note)


def _attribution_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    asked, summary = record.parameters, tables["summary"]
    text = attribution_sentence(summary, tables["differences"], asked["data"], asked["threshold"])
    words = f"{record.label}; bars are 95% bootstrap intervals over images, {len(asked['seeds'])} seed(s)."
    figures = [(_drawn(plots.active_shares, summary), words)]
    if "maps" in tables:
        caption = (
            f"The first test images, not chosen ones, at seed {record.seed}; the line is at {asked['threshold']:g}."
        )
        figures.append((_drawn(plots.activation_maps, tables["maps"], asked["threshold"]), caption))
    headings = ["Images", "Threshold", "Setting", "Active share", "Interval", "Seeds", "Empty maps"]
    rows = [
        [
            row.images,
            f"{row.threshold:g}",
            row.label,
            f"{row.share:.1%}",
            f"{row.low:.1%} to {row.high:.1%}",
            f"{row.lowest_seed:.1%} to {row.highest_seed:.1%}",
            f"{row.empty:.1%}",
        ]
        for row in summary.itertuples()
    ]
    note = "Grad-CAM, each map scaled to 0..1 by itself, so shares compare shapes of maps, not their strengths."
    return Section("Where tuned networks look first", text, figures, headings, rows, note)


_SECTIONS: dict[str, Callable[..., Section]] = {
    "penalty": _penalty_section,
    "solvers": _solver_section,
    "sharing": _sharing_section,
    "span": _span_section,
    "allotment": _allotment_section,
    "attribution": _attribution_section,
}


def _drawn(draw: Draw, *tables: Any) -> Draw:
    """The figure of these tables, at a width that is still to be said."""

    def at(**options: Any) -> Figure:
        return draw(*tables, **options)

    return at
