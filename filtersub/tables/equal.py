"""Settings that train equally many parameters, set against one another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pandas as pd

from ..collect import settings_table, tuning_table
from ..errors import FiltersubError
from ..intervals import difference, holm
from ..records import Record
from ..report.numbers import percent, points

_KEPT = ["task", "method_label", "family", "trainable", "test_accuracy", "lowest", "highest", "seeds", "by_seed"]


def equal_counts(records: Mapping[Path, Record], within: float = 0.02) -> pd.DataFrame:
    """One row a setting that another setting of the same task equals in trained parameters, the head apart.

    Settings are grouped from the smallest count upwards: a group takes those that train at most ``1 + within`` times
    the parameters of its smallest. Columns: group (numbered from 1), task, method_label, family, trainable,
    test_accuracy (mean over seeds), lowest, highest, seeds, by_seed. Within a group the most accurate comes first.
    Raises FiltersubError where ``within`` is negative.
    """
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
            gap = difference(first["by_seed"], second["by_seed"])
            row = {"group": number, "task": first["task"], "trainable": max(first["trainable"], second["trainable"])}
            row |= {"better": first["method_label"], "worse": second["method_label"], "difference": gap.difference}
            rows.append({**row, "low": gap.low, "high": gap.high, "p_value": gap.p_value})
    pairs = pd.DataFrame(
        rows, columns=["group", "task", "trainable", "better", "worse", "difference", "low", "high", "p_value"]
    )
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
