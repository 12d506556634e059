"""What one setting changes, all others alike: pairs of settings, with the difference of each over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..collect import settings_table, tuning_table, varying_parameters
from ..experiment.settings import settings_from
from ..intervals import difference, holm
from ..records import Record
from ..report.numbers import percent, points

_RATIOS = ("trained", "seconds_per_step", "added_memory_bytes", "saved_bytes", "wall_seconds")


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
    gap = difference(second["by_seed"], first["by_seed"])
    row = {"label": first["label"], "family": first["family"], "old": first["test_accuracy"]}
    row |= {"new": second["test_accuracy"], "difference": gap.difference, "low": gap.low, "high": gap.high}
    row |= {"p_value": gap.p_value, "seeds": len(set(first["seeds"]) & set(second["seeds"]))}
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
