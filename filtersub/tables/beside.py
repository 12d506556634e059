"""What the paper prints beside what was run, where the task is the same: accuracy by method and data set (Tables 1 and
2), and what it says of its Figure 4.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from .. import paper
from ..ablation.spec import matches
from ..collect import settings_table, tuning_table
from ..data.catalogue import catalogue
from ..experiment.settings import settings_from
from ..intervals import difference, points
from ..percentages import percentage
from ..records import Record
from ..report.numbers import percent
from ..setting_fields import TuneFields
from ..varying import telling_labels

_COLUMNS = ["label", "family", "method_label", "method", "data", "model", "title", "group", "seeds", "test_accuracy"]
_COLUMNS += ["lowest", "highest", "low", "high", "trained", "printed", "printed_millions", "differs"]
_NOTHING = "–"
_DEFAULTS = {field.name: field.default for field in fields(TuneFields)}
#: settings that tell the runs of Figure 4 apart; the last two where atoms are expanded
_TOLD = ("method", "atoms", "expansion", "block", "block_spatial", "block_coefficients", "limit_atoms")
_TOLD_EXPANDED = ("expansion_coefficients", "expansion_layers")


def paper_rows(records: Mapping[Path, Record], table: str) -> pd.DataFrame:
    """One row a setting and data set of the tuning runs.

    Columns: label, family, method_label, method (row of the paper's table, None where it has none), data, model, title,
    group, seeds, test_accuracy with lowest, highest and the 95 % t interval low, high, trained; printed and
    printed_millions (NaN where the task is not the paper's), differs (why not, empty where it is).

    Raises FiltersubError for another table than "table1" and "table2".
    """
    printed = paper.printed_accuracy(table).set_index(["method", "data"])
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame(columns=_COLUMNS)
    # the tables have a column a data set, so a label says all else that differs, the number of images too
    runs["method_label"] = telling_labels([records[folder] for folder in runs["folder"]], ignored=("data", "model"))
    rows = []
    for row, parameters in _settings(runs, records):
        data, method = str(parameters["data"]), paper.printed_method(parameters)
        differs = paper.differing_settings(parameters, table, int(row["trainable"]))
        known = catalogue().get(data)
        own = {"data": data, "model": parameters["model"], "method": method, "differs": ", ".join(differs)}
        own |= {"title": known.title.split(",")[0] if known else data, "group": known.group if known else ""}
        own |= dict.fromkeys(("printed", "printed_millions"), float("nan"))
        if not differs and method is not None:
            own |= printed.loc[(method, data)].to_dict()
        rows.append({**row, **own})
    order = {data: place for place, data in enumerate(dict.fromkeys(printed.index.get_level_values("data")))}
    found = pd.DataFrame(rows)[_COLUMNS]
    places = found["data"].map(lambda data: order.get(data, len(order)))
    return found.iloc[places.argsort(kind="stable")].reset_index(drop=True)


def beside_paper(rows: pd.DataFrame) -> pd.DataFrame:
    """Methods down, data sets across, as text: means in percent, and what the paper prints where the task is its own.

    The last columns are the mean over the data sets that every method was run on, that of the paper over the same ones
    (where all of them are its tasks), and the trained parameters.
    """
    if rows.empty:
        return pd.DataFrame()
    common = _common(rows)
    lines = {}
    for name, group in rows.groupby("method_label", sort=False):
        cells = {row.title: _cell(row.test_accuracy, row.printed) for row in group.itertuples()}
        shared = group[group["data"].isin(common)]
        if rows["data"].nunique() > 1:
            means = shared["test_accuracy"].mean(), shared["printed"].mean(skipna=False)
            cells[f"mean of {len(common)}"] = _cell(*means)
        cells["trained"] = _counts(group)
        lines[name] = cells
    titles = [*dict.fromkeys(rows["title"]), *(name for name in next(iter(lines.values())) if name.startswith("mean"))]
    return pd.DataFrame.from_dict(lines, orient="index").reindex(columns=[*titles, "trained"]).fillna(_NOTHING)


def paper_sentence(rows: pd.DataFrame) -> str:
    """The best method and the distance from the printed numbers, or why none stand there."""
    if rows.empty:
        return "No tuning run that was judged on test images is there yet."
    common = rows[rows["data"].isin(_common(rows))]
    if common.empty:
        text = "No data set is there for every method, so means do not compare."
    else:
        means = common.groupby("method_label", sort=False)["test_accuracy"].mean().sort_values(ascending=False)
        listed = ", ".join(f"{name} {percent(value)}" for name, value in means.items())
        sets = common["data"].nunique()
        over = f"mean over the {sets} data sets that all were run on" if sets > 1 else common["title"].iloc[0]
        text = f"Test accuracy, {over}: {listed}."
    return f"{text} {_beside(rows)}"


def _beside(rows: pd.DataFrame) -> str:
    beside = rows.dropna(subset=["printed"])
    if beside.empty:
        reasons = rows.loc[rows["differs"] != "", "differs"]
        why = f": {reasons.iloc[0]}" if len(reasons) else ", whose methods are not those of the paper"
        return f"No printed number stands beside these, since the task is not the paper's{why}."
    gaps = beside["test_accuracy"] - beside["printed"]
    text = (
        f"Beside the paper ({len(beside)} of {len(rows)} cells have its task) the mean difference is "
        f"{points(gaps.mean())} points, from {points(gaps.min())} to {points(gaps.max())}."
    )
    means = paper.printed_means()
    whole = [name for name, group in beside.groupby("method") if len(group) == 19 and name in means]
    return text + "".join(
        f" Over all 19 tasks the paper prints a mean of {percent(means[name])} for {name}." for name in whole
    )


def _common(rows: pd.DataFrame) -> list[str]:
    """Data sets that every setting was run on."""
    counts, methods = rows.groupby("data")["method_label"].nunique(), rows["method_label"].nunique()
    return counts[counts == methods].index.tolist()


def _cell(value: float, printed: float) -> str:
    if pd.isna(value):
        return _NOTHING
    return percent(value) if pd.isna(printed) else f"{percent(value)} (paper {percent(printed)})"


def _counts(group: pd.DataFrame) -> str:
    low, high = group["trained"].min(), group["trained"].max()
    own = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    printed = group["printed_millions"].dropna().unique()
    return own if len(printed) == 0 else f"{own} (paper {', '.join(f'{value:g} M' for value in printed)})"


def claims_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a claim of paper.figure4_claims and reading of the paper that the runs have settings of.

    Columns: reading, claim, measure, computed (NaN where a setting is missing, or several fit), low, high and p_value
    (of Welch's t test; NaN where there is one seed, and for counts, which have no noise), printed and value (empty and
    NaN unless both settings are the reading's own runs), missing (why nothing was computed). Settings of two readings
    are never mixed: shared and per-channel alpha_1, blocked and plain spatial kernels are different settings.
    """
    found = []
    for row, parameters in _settings(tuning_table(records), records):
        own = settings_from(dict(parameters), row["label"]).parameters
        trained = int(row["trainable"])
        of = [name for name in paper.READINGS if not paper.differences(parameters, "figure4", name, trained)]
        found.append(_Found(own, row, tuple(of)))
    claims = paper.figure4_claims()
    tables = {reading: [_row(claim, found, reading) for claim in claims] for reading in paper.READINGS}
    known = {name: rows for name, rows in tables.items() if any(not row["missing"] for row in rows)}
    shown = known or {paper.READINGS[0]: tables[paper.READINGS[0]]}
    return pd.DataFrame([{"reading": name, **row} for name, rows in shown.items() for row in rows])


def claims_sentence(table: pd.DataFrame) -> str:
    """How far each setting lies above the one it is compared with, and whether the paper's numbers stand beside."""
    known = table.dropna(subset=["computed"])
    gains = known[known["claim"].str.contains(" over ") & (known["measure"] == "test_accuracy")]
    if gains.empty:
        return "The settings that the paper compares are not there yet."
    parts = [
        f"by the reading {reading!r} "
        + "; ".join(f"{row.claim} {points(row.computed)}{_ends(row)}" for row in own.itertuples())
        for reading, own in gains.groupby("reading", sort=False)
    ]
    beside = len(known.dropna(subset=["value"]))
    words = "No run is the paper's, so its numbers do not stand beside."
    if beside:
        words = f"{beside} of the paper's numbers stand beside, of runs that are its own."
    return f"In points of test accuracy, {'. '.join(parts)}. {words}"


@dataclass(frozen=True)
class _Found:
    """A setting that was run: parameters with all defaults, its row of settings_table, the readings that it is of."""

    parameters: dict[str, Any]
    row: dict[str, Any]
    readings: tuple[str, ...]


def _settings(runs: pd.DataFrame, records: Mapping[Path, Record]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, parameters of its first run) of each setting of settings_table."""
    first = {row["label"]: records[row["folder"]].parameters for row in runs[::-1].to_dict("records")}
    for row in settings_table(runs).to_dict("records"):
        yield row, first[row["label"]]


def _row(claim: paper.Claim, found: list[_Found], reading: str) -> dict[str, Any]:
    row = {"claim": claim.claim, "measure": claim.measure, "computed": float("nan"), "low": float("nan")}
    row |= {"high": float("nan"), "p_value": float("nan"), "printed": "", "value": float("nan"), "missing": ""}
    sides = []
    for side in (claim.of, claim.less):
        if side is None:
            continue
        pattern = _pattern(side, reading)
        fitting = [each for each in found if matches(pattern, each.parameters)]
        if len(fitting) != 1:
            words = ", ".join(f"{name} {value}" for name, value in pattern.items() if value not in (None, False))
            return {**row, "missing": f"{'no setting' if not fitting else 'several settings'} of {words}"}
        sides.append(fitting[0])
    row |= _compared(claim.measure, *(side.row for side in sides))
    if all(reading in side.readings for side in sides):
        row |= {"printed": claim.printed, "value": float("nan") if claim.value is None else claim.value}
    return row


def _pattern(side: paper.Of, reading: str) -> dict[str, Any]:
    """The settings that tell a run of the paper from its others, whatever the model and its layers' names."""
    part, run = paper.find_run(side.run)
    values = paper.method_settings(part, run, reading, **side.sizes)
    if values["method"] != "filter-subspace":
        return {name: values[name] for name in ("method", "rank") if name in values}
    told = [*_TOLD, *(_TOLD_EXPANDED if values.get("expansion") else ())]
    return {name: values.get(name, _DEFAULTS[name]) for name in told} | {"train_coefficients": False}


def _compared(measure: str, ours: Any, theirs: Any | None = None) -> dict[str, float]:
    if theirs is None:
        return {"computed": ours[measure], "low": ours["low"], "high": ours["high"]}
    if measure == "trained":
        return {"computed": ours["trained"] / theirs["trained"] - 1}
    gap = asdict(difference(ours["by_seed"], theirs["by_seed"]))
    return {"computed": gap.pop("difference"), **gap}


def claim_text(row: Any) -> str:
    """The computed number of a row of claims_table in its unit."""
    if pd.isna(row["computed"]):
        return "–"
    if row["measure"] == "trained":
        return percentage(row["computed"], 2, signed=True)
    return points(row["computed"]) if " over " in row["claim"] else percent(row["computed"])


def _ends(row: Any) -> str:
    return "" if pd.isna(row.low) else f" ({points(row.low)} to {points(row.high)})"
