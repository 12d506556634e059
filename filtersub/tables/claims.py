"""What the paper says of its Figure 4, computed from runs; its own numbers stand beside where the task is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..ablation.conditions import matches
from ..collect import settings_table, tuning_table
from ..experiment.settings import TuneSettings, settings_from
from ..intervals import difference
from ..paper import READINGS, Claim, Of, differences, figure4_claims, find_run, method_settings
from ..records import Record
from ..report.numbers import percent, points

_DEFAULTS = {field.name: field.default for field in fields(TuneSettings)}
#: settings that tell the runs of Figure 4 apart; the last two where atoms are expanded
_TOLD = ("method", "atoms", "expansion", "block", "block_spatial", "block_coefficients", "limit_atoms")
_TOLD_EXPANDED = ("expansion_coefficients", "expansion_layers")


def claims_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a claim of paper.figure4_claims and reading of the paper that the runs have settings of.

    Columns: reading, claim, measure, computed (NaN where a setting is missing, or several fit), low, high and p_value
    (of Welch's t test; NaN where there is one seed, and for counts, which have no noise), printed and value (empty and
    NaN unless both settings are the reading's own runs), missing (why nothing was computed). Settings of two readings
    are never mixed: shared and per-channel alpha_1, blocked and plain spatial kernels are different settings.
    """
    found = _settings(records)
    tables = {reading: [_row(claim, found, reading) for claim in figure4_claims()] for reading in READINGS}
    known = {name: rows for name, rows in tables.items() if any(not row["missing"] for row in rows)}
    shown = known or {READINGS[0]: tables[READINGS[0]]}
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
    beside = known.dropna(subset=["value"])
    words = (
        f"{len(beside)} of the paper's numbers stand beside, of runs that are its own."
        if len(beside)
        else "No run is the paper's, so its numbers do not stand beside."
    )
    return f"In points of test accuracy, {'. '.join(parts)}. {words}"


@dataclass(frozen=True)
class _Found:
    """A setting that was run: parameters with all defaults, its row of settings_table, the readings that it is of."""

    parameters: dict[str, Any]
    row: dict[str, Any]
    readings: tuple[str, ...]


def _settings(records: Mapping[Path, Record]) -> list[_Found]:
    runs = tuning_table(records)
    if runs.empty:
        return []
    first = {row["label"]: records[row["folder"]].parameters for row in runs[::-1].to_dict("records")}
    found = []
    for row in settings_table(runs).to_dict("records"):
        parameters = first[row["label"]]
        own = settings_from(dict(parameters), row["label"]).parameters
        of = [name for name in READINGS if not differences(parameters, "figure4", name, int(row["trainable"]))]
        found.append(_Found(own, row, tuple(of)))
    return found


def _row(claim: Claim, found: list[_Found], reading: str) -> dict[str, Any]:
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


def _pattern(side: Of, reading: str) -> dict[str, Any]:
    """The settings that tell a run of the paper from its others, whatever the model and its layers' names."""
    part, run = find_run(side.run)
    values = method_settings(part, run, reading, **side.sizes)
    if values["method"] != "filter-subspace":
        return {name: values[name] for name in ("method", "rank") if name in values}
    told = [*_TOLD, *(_TOLD_EXPANDED if values.get("expansion") else ())]
    return {name: values.get(name, _DEFAULTS[name]) for name in told} | {"train_coefficients": False}


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
