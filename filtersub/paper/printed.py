"""The paper's printed numbers, read from the files beside this one: cells of its tables, and all that it claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import check_name
from ..yaml_file import packaged_yaml

_FOLDER = Path(__file__).parent
TABLES = ("table1", "table2", "table3")
_MILLIONS, _MEAN = "trained_millions", "mean"
#: measures of a claim that only a run gives
RUN_MEASURES = ("test_accuracy", "fid", "active_share")


@dataclass(frozen=True)
class Of:
    """A run of readings.yaml, ``PART/RUN``, with sizes other than its own where they are given."""

    run: str
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> str:
        return self.run.partition("/")[0]


@dataclass(frozen=True)
class Claim:
    """A number or a comparison that the paper states."""

    where: str  # section, figure or table
    claim: str  # in words
    printed: str  # as the text has it
    measure: str  # what is compared, see claims.yaml; of "trained" the relative increase of all trained parameters
    of: Of | None = None  # the run
    less: Of | None = None  # the one that it is compared with
    value: float | None = None  # the printed number, None where only a word is printed
    expect: str = ""  # "more" or "fewer" where that is the word
    between: tuple[int, int] | None = None  # smallest and largest count that the printed words allow
    figure: str = ""  # of "parameters", a name in parameters.readings.PRESETS
    table: str = ""  # of "mean" and "gap", as the next three
    method: str = ""  # the printed row
    other: str = ""  # the row that it is compared with
    sets: tuple[str, ...] = ()  # its columns
    preset: str = ""  # the ablation that runs it, where it is not its part's own

    @property
    def needs_run(self) -> bool:
        return self.measure in RUN_MEASURES


@cache
def claims() -> tuple[Claim, ...]:
    """All that the paper claims, in its order."""
    groups = packaged_yaml(_FOLDER / "claims.yaml")
    return tuple(_claim(group["where"], group["part"], entry) for group in groups for entry in group["claims"])


def figure4_claims() -> tuple[Claim, ...]:
    """What section 5.2 states of the accuracy and the trained parameters in Figure 4, in its order."""
    return tuple(
        claim
        for claim in claims()
        if claim.of is not None and claim.of.part == "figure4" and claim.measure in ("test_accuracy", "trained")
    )


def printed_accuracy(table: str) -> pd.DataFrame:
    """One row a method and data set: method, data, printed (fraction), printed_millions (of trained parameters).

    The methods go by this project's names; "filter-subspace" is the paper's setting 3. Raises FiltersubError for
    another table than table1 and table2.
    """
    check_name("table", table, TABLES[:2])
    rows = []
    for method, data, cell in _cells(table):
        millions = printed_millions(table, method, data)
        rows.append({"method": method, "data": data, "printed": float(cell) / 100, "printed_millions": float(millions)})
    return pd.DataFrame(rows)


def printed_fid() -> pd.DataFrame:
    """Table 3, one row a data set and method: data, method, paper_fid."""
    rows = [{"data": data, "method": method, "paper_fid": float(cell)} for method, data, cell in _cells("table3")]
    return pd.DataFrame(rows)


def printed_millions(table: str, method: str, data: str = "") -> str:
    """Trained parameters in millions as the table prints them; empty where it prints none."""
    row = _read(table).loc[method]
    return str(row.get(f"{_MILLIONS}:{data}", row.get(_MILLIONS)))


def printed_means(table: str = "table1") -> dict[str, float]:
    """The last column of Table 1 (as fractions) or Table 3, by method."""
    column = _read(table)[_MEAN].astype(float)
    return (column / 100 if table == "table1" else column).to_dict()


def row_mean(table: str, method: str, sets: tuple[str, ...] = ()) -> Decimal:
    """The mean of a printed row over the data sets ``sets``, exactly; all of its data sets where none are named."""
    cells = [cell for own, data, cell in _cells(table) if own == method and (not sets or data in sets)]
    return sum(map(Decimal, cells), Decimal(0)) / len(cells)


def _cells(table: str) -> list[tuple[str, str, str]]:
    """(method, data set, cell as printed) of every cell that is no mean and no count."""
    wide = _read(table)
    columns = [name for name in wide if name != _MEAN and not name.startswith(_MILLIONS)]
    return [(str(method), data, str(row[data])) for method, row in wide.iterrows() for data in columns]


@cache
def _read(table: str) -> pd.DataFrame:
    """The table as text, a row a method."""
    return pd.read_csv(_FOLDER / f"{table}.csv", comment="#", dtype=str, keep_default_na=False).set_index("method")


def _claim(where: str, part: str, entry: Mapping[str, Any]) -> Claim:
    values = {"where": where, "table": part if entry["measure"] in ("mean", "gap") else "", **entry}
    for side in ("of", "less"):
        if side in values:
            named = values[side] if isinstance(values[side], dict) else {"run": values[side]}
            sizes = {name: value for name, value in named.items() if name != "run"}
            values[side] = Of(f"{part}/{named['run']}", sizes)
    for name in ("between", "sets"):
        if name in values:
            values[name] = tuple(values[name])
    return Claim(**values)
