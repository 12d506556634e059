"""Settings set against one another: those that differ in one setting alone, and those that train equally many
parameters.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from ..collect import settings_table, tuning_table
from ..errors import FiltersubError
from ..experiment.settings import settings_from
from ..intervals import Difference, difference, holm, points
from ..records import Record
from ..report.numbers import percent
from ..settings import check_number
from ..varying import varying_parameters

_KEPT = ["task", "method_label", "family", "trainable", "test_accuracy", "lowest", "highest", "seeds", "by_seed"]
_RATIOS = ("trained", "seconds_per_step", "added_memory_bytes", "saved_bytes", "wall_seconds")


def equal_counts(records: Mapping[Path, Record], within: float = 0.02) -> pd.DataFrame:
    """One row a setting that another setting of the same task equals in trained parameters, the head apart.

    Settings are grouped from the smallest count upwards: a group takes those that train at most ``1 + within`` times
    the parameters of its smallest. Columns: group (numbered from 1), task, method_label, family, trainable,
    test_accuracy (mean over seeds), lowest, highest, seeds, by_seed. Within a group the most accurate comes first.
    Raises FiltersubError where ``within`` is negative.
    """
    check_number("within", within)
    if within < 0:
        raise FiltersubError(f"within is the share that counts may differ by, at least 0, got {within}")
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame(columns=["group", *_KEPT])
    settings = settings_table(runs)
    found = []
    for _, task in settings[settings["trainable"] > 0].groupby("task", sort=False):
        ordered = task.sort_values("trainable", kind="stable")
        smallest, members = None, []
        for row in ordered.to_dict("records"):
            if smallest is None or row["trainable"] > (1 + within) * smallest:
                found.append(members)
                smallest, members = row["trainable"], []
            members.append(row)
        found.append(members)
    rows = []
    for number, members in enumerate((each for each in found if len(each) > 1), start=1):
        best_first = sorted(members, key=lambda row: -row["test_accuracy"])
        rows += [{"group": number, **{name: row[name] for name in _KEPT}} for row in best_first]
    return pd.DataFrame(rows, columns=["group", *_KEPT])


def equal_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of settings of one group of equal_counts: group, task, trainable (the larger count), better, worse
    (their labels), difference with low, high and p_value (Welch's t test over seeds, corrected by Holm for the number
    of pairs; NaN where a side has one seed).
    """
    rows = []
    for number, members in table.groupby("group"):
        for first, second in combinations(members.to_dict("records"), 2):
            row = {"group": number, "task": first["task"], "trainable": max(first["trainable"], second["trainable"])}
            row |= {"better": first["method_label"], "worse": second["method_label"]}
            rows.append({**row, **asdict(difference(first["by_seed"], second["by_seed"]))})
    columns = ["group", "task", "trainable", "better", "worse", *(field.name for field in fields(Difference))]
    pairs = pd.DataFrame(rows, columns=columns)
    return pairs.assign(p_value=holm(pairs["p_value"].tolist()))


def equal_sentence(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """The accuracies of each group, and which of the differences in it are beyond noise."""
    if table.empty:
        return "No two settings that train equally many parameters are there yet."
    parts = []
    for number, members in table.groupby("group"):
        first = members.iloc[0]
        told = ", ".join(f"{row.method_label} {percent(row.test_accuracy)}" for row in members.itertuples())
        where = f"on {first['task']}, " if first["task"] else ""
        own = pairs[pairs["group"] == number]
        beyond = own[own["p_value"] < 0.05]
        sure = "; ".join(
            f"{row.better} lies {points(row.difference)} points above {row.worse} ({points(row.low)} to "
            f"{points(row.high)}, p = {row.p_value:.2g})"
            for row in beyond.itertuples()
        )
        if own["p_value"].isna().all():
            sure = "one seed each, so whether that is noise is not known"
        parts.append(
            f"{where}about {members['trainable'].max():,} trained parameters: {told} "
            f"({sure or 'no difference is beyond the noise of these seeds'})"
        )
    text = ". ".join(part[0].upper() + part[1:] for part in parts)
    return f"{text}."


def changes(records: Mapping[Path, Record], setting: str, old: Any, new: Any) -> pd.DataFrame:
    """One row for each pair of settings that differ in ``setting`` alone, from ``old`` to ``new``.

    Columns: label (of the old one), old and new (mean test accuracy), difference with low, high and p_value (Welch's t
    test over seeds, p-values corrected by Holm for their number; NaN where there is one seed), seeds, and
    ``times_NAME``: how many times the old one's trained parameters, seconds a step, ... the new one takes.
    """
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame()
    used = {folder: records[folder] for folder in runs["folder"]}
    complete = {folder: settings_from(record.parameters, str(folder)).parameters for folder, record in used.items()}
    names = [name for name in varying_parameters(used.values()) if name != setting]
    rests = [tuple(repr(complete[folder].get(name)) for name in names) for folder in runs["folder"]]
    runs = runs.assign(_rest=rests, _value=[complete[folder][setting] for folder in runs["folder"]])
    rows = []
    for _, group in runs.groupby("_rest", sort=False):
        sides = [group[[value == wanted for value in group["_value"]]] for wanted in (old, new)]
        if not any(side.empty for side in sides):
            rows.append(_row(*sides))
    table = pd.DataFrame(rows)
    return table if table.empty else table.assign(p_value=holm(table["p_value"].tolist()))


def _row(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    first, second = settings_table(before).iloc[0], settings_table(after).iloc[0]
    row = {"label": first["label"], "family": first["family"], "old": first["test_accuracy"]}
    row |= {"new": second["test_accuracy"], **asdict(difference(second["by_seed"], first["by_seed"]))}
    row["seeds"] = len(set(first["seeds"]) & set(second["seeds"]))
    for name in (name for name in _RATIOS if name in before and name in after):
        known = before[name].mean()
        row[f"times_{name}"] = after[name].mean() / known if known else float("nan")
    return row


def change_sentence(table: pd.DataFrame, what: str) -> str:
    """What the change does to accuracy and trained parameters, pair by pair; ``what`` names it: "tuning alpha too"."""
    if table.empty:
        return f"No two settings that differ in {what} alone are there yet."
    parts = []
    for row in table.itertuples():
        told = f"{row.label}: {percent(row.old)} becomes {percent(row.new)}, {points(row.difference)} points"
        if pd.isna(row.p_value):
            told += " (one seed, so whether that is noise is not known)"
        else:
            beyond = "beyond noise" if row.p_value < 0.05 else "not beyond the noise of these seeds"
            told += f" ({points(row.low)} to {points(row.high)}, p = {row.p_value:.2g}, {beyond})"
        parts.append(f"{told}, at {row.times_trained:.3g} times the trained parameters")
    return f"By {what}, {'; '.join(parts)}."
