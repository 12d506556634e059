"""What the paper says of its Figure 4, computed from runs; its own numbers stand beside where the task is the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..ablation.conditions import matches
from ..collect import settings_table, tuning_table
from ..experiment.settings import settings_from
from ..intervals import difference
from ..paper import Claim, differing_settings, figure4_claims
from ..records import Record
from ..report.sentences import percent, points


def claims_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a claim of paper.figure4_claims.

    Columns: claim, measure, computed (NaN where a setting is missing, or several fit), low, high and p_value (of
    Welch's t test; NaN where there is one seed, and for counts, which have no noise), printed and value
    (empty and NaN unless both settings have the paper's task), missing (why nothing was computed).
    """
    found = _settings(records)
    return pd.DataFrame([_row(claim, found) for claim in figure4_claims()])


def claims_sentence(table: pd.DataFrame) -> str:
    """How far each setting lies above the one it is compared with, and whether the paper's numbers stand beside."""
    known = table.dropna(subset=["computed"])
    gains = known[known["claim"].str.contains(" over ") & (known["measure"] == "test_accuracy")]
    if gains.empty:
        return "The settings that the paper compares are not there yet."
    parts = "; ".join(f"{row.claim} {points(row.computed)}{_ends(row)}" for row in gains.itertuples())
    beside = known.dropna(subset=["value"])
    words = (
        f"The task is the paper's, whose {len(beside)} numbers stand beside."
        if len(beside)
        else "The task is not the paper's, so its numbers do not stand beside."
    )
    return f"In points of test accuracy: {parts}. {words}"


def _settings(records: Mapping[Path, Record]) -> list[tuple[dict[str, Any], Any, bool]]:
    """(parameters with all defaults, row of settings_table, whether the task is the paper's) of each setting."""
    runs = tuning_table(records)
    if runs.empty:
        return []
    first = {row["label"]: records[row["folder"]].parameters for row in runs[::-1].to_dict("records")}
    found = []
    for row in settings_table(runs).to_dict("records"):
        parameters = first[row["label"]]
        own = settings_from(dict(parameters), row["label"]).parameters
        found.append((own, row, not differing_settings(parameters, "figure4")))
    return found


def _row(claim: Claim, found: list[tuple[dict[str, Any], Any, bool]]) -> dict[str, Any]:
    row = {"claim": claim.claim, "measure": claim.measure, "computed": float("nan"), "low": float("nan")}
    row |= {"high": float("nan"), "p_value": float("nan"), "printed": "", "value": float("nan"), "missing": ""}
    sides, tasks = [], []
    for pattern in (claim.of, claim.less):
        if not pattern:
            continue
        fitting = [each for each in found if matches({**pattern, "train_coefficients": False}, each[0])]
        if len(fitting) != 1:
            words = ", ".join(f"{name} {value}" for name, value in pattern.items() if value is not None)
            return {**row, "missing": f"{'no setting' if not fitting else 'several settings'} of {words}"}
        sides.append(fitting[0][1])
        tasks.append(fitting[0][2])
    row |= _compared(claim.measure, *sides)
    if all(tasks):
        row |= {"printed": claim.printed, "value": float("nan") if claim.value is None else claim.value}
    return row


def _compared(measure: str, ours: Any, theirs: Any | None = None) -> dict[str, float]:
    if theirs is None:
        return {"computed": ours[measure], "low": ours["low"], "high": ours["high"]}
    if measure == "trained":
        return {"computed": ours["trained"] / theirs["trained"] - 1}
    gap = difference(ours["by_seed"], theirs["by_seed"])
    return {"computed": gap.difference, "low": gap.low, "high": gap.high, "p_value": gap.p_value}


def claim_text(row: Any) -> str:
    """The computed number of a row of claims_table in its unit."""
    if pd.isna(row["computed"]):
        return "–"
    if row["measure"] == "trained":
        return f"{row['computed']:+.2%}"
    return points(row["computed"]) if " over " in row["claim"] else percent(row["computed"])


def _ends(row: Any) -> str:
    return "" if pd.isna(row.low) else f" ({points(row.low)} to {points(row.high)})"
