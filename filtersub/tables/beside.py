"""Tables 1 and 2: accuracy by method and data set, the printed numbers beside it where the task is the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..collect import settings_table, tuning_table
from ..data.catalogue import catalogue
from ..paper import differing_settings, printed_accuracy, printed_means, printed_method
from ..records import Record
from ..report.numbers import percent, points
from ..varying import telling_labels

_COLUMNS = ["label", "family", "method_label", "method", "data", "model", "title", "group", "seeds", "test_accuracy"]
_COLUMNS += ["lowest", "highest", "low", "high", "trained", "printed", "printed_millions", "differs"]
_NOTHING = "–"


def paper_rows(records: Mapping[Path, Record], table: str) -> pd.DataFrame:
    """One row a setting and data set of the tuning runs.

    Columns: label, family, method_label, method (row of the paper's table, None where it has none), data, model, title,
    group, seeds, test_accuracy with lowest, highest and the 95 % t interval low, high, trained; printed and
    printed_millions (NaN where the task is not the paper's), differs (why not, empty where it is).

    Raises FiltersubError for another table than "table1" and "table2".
    """
    printed = printed_accuracy(table).set_index(["method", "data"])
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame(columns=_COLUMNS)
    # the tables have a column a data set, so a label says all else that differs, the number of images too
    runs["method_label"] = telling_labels([records[folder] for folder in runs["folder"]], ignored=("data", "model"))
    first = {row["label"]: records[row["folder"]].parameters for row in runs[::-1].to_dict("records")}
    rows = []
    for row in settings_table(runs).to_dict("records"):
        parameters = first[row["label"]]
        data, method = str(parameters["data"]), printed_method(parameters)
        differs = differing_settings(parameters, table, int(row["trainable"]))
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
            cells[f"mean of {len(common)}"] = _cell(
                shared["test_accuracy"].mean(), shared["printed"].mean(skipna=False)
            )
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
    means = printed_means()
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
