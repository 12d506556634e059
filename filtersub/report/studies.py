"""What a report shows of runs that ask more than one setting: solvers, the penalty, whole models, where they look,
generation."""

import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from .. import plots, studies
from ..collect import Collection
from ..errors import FiltersubError
from ..generation.record import KIND
from ..generation.tables import generation_sentence, generation_table, judged, method_table
from ..percentages import NBSP
from ..plots.generation import distance_vs_parameters, samples_side_by_side
from ..printable import counted
from ..records import Record
from ..yaml_file import packaged_yaml

Draw = Callable[..., Figure]  # of tables that it holds; called with a width
T = TypeVar("T")
_OPTIONAL = ("median_output_error", "agreement", "seconds_per_step")  # that not every record has


@dataclass(frozen=True)
class Section:
    """A heading, what was found in words, figures with their captions, and a table of cells with its headings."""

    title: str
    text: str
    figures: list[tuple[Draw, str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""
    texts: list[bool] = field(default_factory=list)  # of each column: whether its cells are words


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
    generated = attempt("the section on generation", odd, _generation_section, found)
    return sections if generated is None else [*sections, generated]


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
            pairs.append((folder, (record, studies.study_tables(folder))))
        except FiltersubError as error:  # a folder copied without its tables: its record still counts elsewhere
            odd.append(str(error))
    # trained weights first: what follows shows one model in full, and random ones say little
    return sorted(pairs, key=lambda pair: not pair[1][0].parameters.get("pretrained", True))


def _section(name: str, text: str, figures: list[tuple[Draw, str]], table: pd.DataFrame | None = None) -> Section:
    """The section of this name in sections.yaml, with a row of cells for each row of the table; its index is columns,
    too. A missing number is a dash."""
    described = _described()[name]
    columns = described.get("columns", {})
    rows, found = [], [] if table is None else table.reset_index().to_dict("records")
    texts = [all(isinstance(row.get(cell.strip("{}")), str) for row in found) for cell in columns.values()]
    for row in found:
        known = {**dict.fromkeys(_OPTIONAL, float("nan")), **row}
        rows.append([_Dashes().vformat(cell, (), known) for cell in columns.values()])
    return Section(described["title"], text, figures, list(columns), rows, described.get("note", ""), texts)


class _Dashes(string.Formatter):
    def format_field(self, value: Any, spec: str) -> str:
        return "–" if value is None or value != value else super().format_field(value, spec)


@cache
def _described() -> dict[str, Any]:
    return packaged_yaml(Path(__file__).with_name("sections.yaml"))


def _model_sections(models: list[tuple[Record, dict[str, pd.DataFrame]]]) -> list[Section]:
    record, tables = models[0]
    error = record.metrics["relative_error"]
    text = f"{record.label}: {studies.model_sentence(tables['layers'], tables['costs'], tables['network'], error)}"
    words = (
        "Relative error of each layer: of its kernels, of the best subspace of m dimensions, which no m atoms can "
        "beat, and of the layer's output on real images."
    )
    figures = [
        (
            partial(plots.layer_costs, tables["costs"]),
            f"Seconds{' and rounds' * bool((tables['costs']['rounds'] > 0).any())} of learning the atoms of each layer "
            f"of {record.label}.",
        ),
        (partial(plots.layer_errors, tables["subspace"], tables.get("outputs")), words),
    ]
    if "agreement" in tables["network"]:
        means = tables["network"].groupby("m", as_index=False).mean()
        words = (
            f"The rebuilt network against m, over {record.parameters['n_images']} crops of photographs: the share of "
            "them that it puts in the same class as before, and relative errors of kernels and outputs."
        )
        figures.append((partial(plots.network_vs_atoms, means), words))
    totals = []
    for one, its in models:
        sizes = {"label": one.label, "layers": len(its["layers"]), "kernels": int(its["layers"]["rows"].sum())}
        totals.append({**sizes, **one.cost, **one.metrics})
    sections = [_section("decomposition", text, figures, pd.DataFrame(totals))]
    if "storage" in tables:
        words = f"Relative error of each layer of {record.label} in formats that store as many numbers."
        drawn = [(partial(plots.storage_formats, tables["storage"]), words)]
        sections.append(_section("storage", studies.storage_sentence(tables["storage"]), drawn))
    return sections


def _penalty_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    total, accuracy = tables["total"], tables["accuracy"]
    words = (
        f"{record.label}: means against the penalty l; bands are the range over seeds, each panel has its own scale."
    )
    drawn = [(partial(plots.penalty_path, total, accuracy), words)]
    means = total.groupby("l1_penalty")[["density", "relative_error", "nonzeros", "rounds", "seconds"]].mean()
    means["test_accuracy"] = accuracy.groupby("l1_penalty")["test_accuracy"].mean()
    return _section("penalty", studies.penalty_sentence(total, accuracy), drawn, means)


def _solver_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    table, gaps = tables["solvers"].astype({"note": object}).fillna({"note": ""}), tables["gaps"]
    asked = record.parameters
    atoms = counted(record.counts["atoms"], "atom")
    caption = (
        f"{record.counts['rows']:,} kernels of {asked['patch_size']} numbers, {atoms}, l = {asked['l1_penalty']:g}, "
        f"seed {record.seed}: how far above the optimum's the objective is, against time. "
        "Lines: solvers of many equal steps. Hollow marks: solvers of another problem."
    )
    figures = [(partial(plots.solver_gaps, gaps[gaps["seed"] == record.seed]), caption)]
    columns = ["relative_gap", "kkt_over_penalty", "seconds", "iterations", "rows_per_second"]
    medians = table[table["note"] == ""].groupby("solver", sort=False)[columns].median()
    count = table["seed"].nunique()
    section = _section("solvers", studies.solver_sentence(table), figures, medians)
    return replace(section, note=f"Medians over {count} seeds." if count > 1 else "One seed.")


def _sharing_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    totals, accuracy = tables["totals"], tables["accuracy"]
    words = f"{record.label}: relative error over all kernels against m; bands are the range over seeds."
    figures = [(partial(plots.sharing_errors, totals), words)]
    columns = ["dictionaries", "atom_numbers", "relative_error"]
    means = totals.groupby(["m", "sharing"], as_index=False)[columns].mean()
    tuned = means["sharing"].map(accuracy.groupby("sharing")["test_accuracy"].mean())
    means["test_accuracy"] = tuned.where(means["m"] == record.parameters["atoms"])
    means["kind"] = means["sharing"].map({"own": "one a layer", "shared": "shared"})
    return _section("sharing", studies.sharing_sentence(totals, accuracy), figures, means)


def _span_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    totals = tables["totals"]
    figures = [
        (
            partial(plots.span_shares, totals),
            f"{record.label}: the share of full tuning's change that atoms could have learnt, against m; solid lines "
            "are means over seeds, bars their range, dashed lines the share of a random change.",
        ),
        (
            partial(plots.span_layers, tables["layers"]),
            f"The share of each layer over that of a random change, at m = {totals['m'].max()}; 1 is chance.",
        ),
    ]
    columns = ["free", "trained", "share", "expected", "covered", "share_of_all"]
    means = totals.groupby(["setting", "m"], sort=False)[columns].mean()
    return _section("span", studies.span_sentence(totals), figures, means)


def _allotment_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    runs = tables["runs"]
    text = studies.allotment_sentence(studies.allotment_pairs(runs))  # first: it names a column that is missing
    words = f"{record.label}: test accuracy, a panel a budget; small marks are seeds, large ones their mean."
    figures = [
        (partial(plots.equal_accuracies, studies.allotment_groups(runs)), words),
        (
            partial(plots.allotted_layers, tables["layers"]),
            "What each layer gets of each budget: coloured is the share of the gradient's energy that its atoms can "
            "follow, grey what the largest choice of atoms would let them; a layer without colour is not tuned.",
        ),
    ]
    means = runs.groupby(["budget", "kind", "setting"], sort=False)[["trainable", "score", "test_accuracy"]].mean()
    return _section("allotment", text, figures, means)


def _attribution_section(record: Record, tables: dict[str, pd.DataFrame]) -> Section:
    asked, summary = record.parameters, tables["summary"]
    text = studies.attribution_sentence(summary, tables["differences"], asked["data"], asked["threshold"])
    count = len(asked["seeds"])
    words = (
        f"{record.label}: the share of the image whose map is above a threshold; bars are 95{NBSP}% bootstrap "
        f"intervals over images, of {count} {'seed' if count == 1 else 'seeds'}."
    )
    figures = [(partial(plots.active_shares, summary), words)]
    if "maps" in tables:
        line = f"the line is at {asked['threshold']:g}."
        caption = (
            f"Grad-CAM maps over the first test images, not chosen ones, at seed {record.seed}: from dark blue (0) to "
            f"yellow (the map's largest value); {line}"
        )
        figures.append((partial(plots.activation_maps, tables["maps"], asked["threshold"]), caption))
    return _section("attribution", text, figures, summary)


def _generation_section(found: Collection) -> Section | None:
    """Distances beside trained parameters, samples of every setting side by side; None where no run was judged."""
    runs = judged(generation_table(found.of_kind(KIND)))
    if runs.empty:
        return None
    figures = [
        (
            partial(distance_vs_parameters, runs),
            "Distance to real images (log scale, lower is closer) of each setting, most trained parameters below; bars "
            "are the range over seeds, dashed and dotted lines distances between sets of real images.",
        )
    ]
    for data, own in runs.groupby("data", sort=False):
        first = own[own["seed"] == own["seed"].min()]
        caption = f"{data}, seed {first['seed'].iloc[0]}: the same place in each panel is the same noise."
        figures.append((partial(samples_side_by_side, first), caption))
    table = method_table(runs)
    table["seeds"] = [", ".join(map(str, seeds)) for seeds in table["seeds"]]
    return _section("generation", generation_sentence(runs), figures, table)


_SECTIONS: dict[str, Callable[..., Section]] = {
    "penalty": _penalty_section,
    "solvers": _solver_section,
    "sharing": _sharing_section,
    "span": _span_section,
    "allotment": _allotment_section,
    "attribution": _attribution_section,
}
