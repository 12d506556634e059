"""The paper's printed accuracies, read from the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..errors import FiltersubError

_FOLDER = Path(__file__).parent
TABLES = ("table1", "table2")
_MILLIONS = "trained_millions"


@dataclass(frozen=True)
class Claim:
    """A number or a comparison that the text states of Figure 4.

    Attributes
    ----------
    claim : in words; printed : as the text has it
    of, less : parameters of the two settings that are compared; an empty ``less`` leaves the first by itself
    measure : "test_accuracy", a difference of fractions, or "trained", the relative increase of all trained parameters
    value : the printed number in that unit, None where only words are printed
    """

    claim: str
    of: dict[str, Any]
    measure: str
    printed: str
    less: dict[str, Any] = field(default_factory=dict)
    value: float | None = None


@cache
def figure4_claims() -> tuple[Claim, ...]:
    """All that section 5.2 states of Figure 4, in its order."""
    content = yaml.safe_load((_FOLDER / "figure4.yaml").read_text(encoding="utf-8"))
    return tuple(Claim(**entry) for entry in content)


def printed_accuracy(table: str) -> pd.DataFrame:
    """One row a method and data set: method, data, printed (fraction), printed_millions (of trained parameters).

    The methods go by this project's names; "filter-subspace" is the paper's setting 3. Raises FiltersubError for
    another table than table1 and table2.
    """
    wide = _read(table)
    rows = []
    for row in wide.to_dict("records"):
        for data in (name for name in wide if name not in ("method", "mean") and not name.startswith(_MILLIONS)):
            millions = row.get(f"{_MILLIONS}:{data}", row.get(_MILLIONS))
            cells = {"printed": row[data] / 100, "printed_millions": millions}
            rows.append({"method": row["method"], "data": data, **cells})
    return pd.DataFrame(rows)


def printed_means() -> dict[str, float]:
    """The mean over the 19 tasks that Table 1 prints, by method, as fractions."""
    wide = _read("table1")
    return dict(zip(wide["method"], wide["mean"] / 100, strict=True))


@cache
def _read(table: str) -> pd.DataFrame:
    if table not in TABLES:
        raise FiltersubError(f"unknown table {table!r}; known: {', '.join(TABLES)}")
    return pd.read_csv(_FOLDER / f"{table}.csv", comment="#")
