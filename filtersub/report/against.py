"""A report beside an earlier one: which settings changed beyond noise, which are new, which are gone."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from ..collect import Collection, collect, is_judged_on_test
from ..errors import FiltersubError
from ..files import as_path
from ..intervals import SIGNIFICANT, TEST, difference, holm
from ..percentages import NBSP
from ..records import Record
from ..varying import telling_labels

_SETTLED = "no change beyond noise"


@dataclass(frozen=True)
class Comparison:
    """What differs between two reports.

    Attributes
    ----------
    name : of the earlier report's folder
    changes : one row a setting and measure of both: label, measure, old, new, difference, low, high (95 % interval of
        the difference), p_value (Holm-corrected within the measure), old_seeds, new_seeds, verdict
    only_new, only_old : settings of one side alone
    """

    name: str
    changes: pd.DataFrame
    only_new: tuple[str, ...]
    only_old: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What changed beyond noise, by the test's name."""
        tested = self.changes[self.changes["p_value"].notna()] if len(self.changes) else self.changes
        moved = self.changes[self.changes["verdict"].isin(["higher", "lower"])] if len(self.changes) else self.changes
        if self.changes.empty:
            return f"No setting of this report is in {self.name}, so nothing can be compared."
        text = (
            f"{len(self.changes)} pairs of a setting and a measure are in both reports. {len(moved)} of the "
            f"{len(tested)} that could be tested changed beyond noise ({TEST} over seeds, Holm-corrected, 5{NBSP}%)"
        )
        text += f": {'; '.join(f'{row.measure} of {row.label} is {row.verdict}' for row in moved.itertuples())}."
        return text if len(moved) else text.replace(": .", ".")


def compare(found: Collection, against: str | os.PathLike[str]) -> Comparison:
    """The records of a report beside those of an earlier one.

    Settings are the same where every parameter that both reports record, but for the seed, is equal. Measures: the test
    accuracy and the time of a step of tuning runs, all metrics of other kinds of run. Trained parameters are exact and
    are listed where they differ.

    Raises FiltersubError when the earlier report's folder does not exist or holds no record.
    """
    earlier = collect(against)
    if not earlier.records:
        raise FiltersubError(f"{against} holds no records, so there is nothing to compare with")
    ours, theirs = _judged(found), _judged(earlier)
    names = _common_names([*ours, *theirs])
    labels = _labels([*ours, *theirs], names)
    new, old = _by_setting(ours, names), _by_setting(theirs, names)
    rows = [row for key, records in new.items() if key in old for row in _changes(records, old[key], labels)]
    changes = _corrected(pd.DataFrame(rows))
    only_new = tuple(_label(records, labels) for key, records in new.items() if key not in old)
    only_old = tuple(_label(records, labels) for key, records in old.items() if key not in new)
    return Comparison(as_path(against).resolve().name, changes, only_new, only_old)


def _judged(found: Collection) -> list[Record]:
    """Records that a report compares: tuning runs judged on test images, and every other kind."""
    return [record for record in found.records.values() if record.kind != "tuning" or is_judged_on_test(record)]


def _common_names(records: list[Record]) -> dict[str, set[str]]:
    """By kind, the names of the parameters that every record of it has: a newer package records more."""
    names: dict[str, set[str]] = {}
    for record in records:
        names[record.kind] = names.get(record.kind, set(record.parameters)) & set(record.parameters)
    return names


def _by_setting(records: Iterable[Record], names: dict[str, set[str]]) -> dict[tuple, list[Record]]:
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        shared = sorted(names[record.kind] - {"seed", "seeds"})
        key = (record.kind, *((name, repr(record.parameters[name])) for name in shared))
        groups.setdefault(key, []).append(record)
    return groups


def _labels(records: list[Record], names: dict[str, set[str]]) -> dict[int, str]:
    """By the identity of each record, its label with what tells its setting from others of that label, such as data."""
    shared = [
        replace(record, parameters={name: record.parameters[name] for name in sorted(names[record.kind])})
        for record in records
    ]
    return {id(record): label for record, label in zip(records, telling_labels(shared), strict=True)}


def _label(records: list[Record], labels: dict[int, str]) -> str:
    label = " / ".join(dict.fromkeys(labels[id(record)] for record in records))
    return label if records[0].kind == "tuning" else f"{records[0].kind}: {label}"


def _changes(new: list[Record], old: list[Record], labels: dict[int, str]) -> list[dict[str, Any]]:
    rows, label = [], _label(new, labels)
    for measure in _measures(new, old):
        ours, theirs = _by_seed(new, measure), _by_seed(old, measure)
        if not ours or not theirs:
            continue
        row = {"label": label, "measure": measure.replace("_", " "), "old_seeds": len(theirs)}
        row |= {"new_seeds": len(ours), "old": sum(theirs) / len(theirs), "new": sum(ours) / len(ours)}
        rows.append({**row, **asdict(difference(ours, theirs))})
    return rows + _counts_that_differ(new, old, label)


def _measures(new: list[Record], old: list[Record]) -> list[str]:
    if new[0].kind == "tuning":
        return ["test_accuracy", "seconds_per_step"]
    return [name for name in new[0].metrics if name in old[0].metrics]


def _by_seed(records: list[Record], measure: str) -> list[float]:
    """One number a seed: a run that was made twice is averaged, or its noise would look smaller than it is."""
    values: dict[int, list[float]] = {}
    for record in records:
        value = record.metrics.get(measure, record.cost.get(measure))
        if value is not None:
            values.setdefault(record.seed, []).append(value)
    return [sum(numbers) / len(numbers) for numbers in values.values()]


def _counts_that_differ(new: list[Record], old: list[Record], label: str) -> list[dict[str, Any]]:
    rows = []
    for name in ("trainable", "head", "total"):
        ours, theirs = new[0].counts.get(name), old[0].counts.get(name)
        if None not in (ours, theirs) and ours != theirs:
            exact = dict.fromkeys(("difference", "low", "high"), ours - theirs) | {"p_value": float("nan")}
            row = {"label": label, "measure": f"{name} parameters", "old": theirs, "new": ours, **exact}
            rows.append({**row, "old_seeds": len(old), "new_seeds": len(new)})
    return rows


def _corrected(changes: pd.DataFrame) -> pd.DataFrame:
    if changes.empty:
        return changes
    for _, group in changes.groupby("measure"):
        changes.loc[group.index, "p_value"] = holm(group["p_value"].tolist())
    return changes.assign(verdict=[_verdict(row) for row in changes.itertuples()])


def _verdict(row: Any) -> str:
    if row.measure.endswith(" parameters"):
        return "differs (an exact count)"
    if pd.isna(row.p_value):
        return "not known: one seed" if row.difference else "the same, one seed"
    if row.p_value >= SIGNIFICANT or row.difference == 0:
        return _SETTLED
    return "higher" if row.difference > 0 else "lower"
