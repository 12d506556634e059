"""Grids of settings among the runs of a report: pairs of settings that were varied against each other."""

from dataclasses import dataclass

import pandas as pd

from ..collect import ATOM_FAMILIES
from ..intervals import accuracy_row
from .effects import level_rank

#: (down, across) with what a reader calls them; the paper's Figure 4 and the readers' questions.
_PAIRS = (("atoms", "expansion"), ("atoms", "block"), ("expansion", "block"), ("atoms", "l1_penalty"))
_NAMES = {
    "atoms": "filter atoms m",
    "expansion": "atoms of each atom m₁",
    "block": "channel block k_c",
    "l1_penalty": "penalty l",
}
_NONE = "none"


@dataclass(frozen=True)
class Grid:
    """Cells over two settings; ``fixed`` says what else is the same in them, where other grids differ."""

    rows: str
    columns: str
    cells: pd.DataFrame
    fixed: str


def setting_grids(runs: pd.DataFrame, varying: list[str], interval: str = "t") -> list[Grid]:
    """The grids that the runs of atoms fill: at least two values each way, and all other settings alike.

    Parameters
    ----------
    runs : collect.tuning_table
    varying : names of the settings in which runs differ, as collect.varying_parameters gives them
    interval : a name in intervals.INTERVALS, of the ``low`` and ``high`` of each cell

    Notes
    -----
    A grid may have holes, but every row and every column of it holds two cells at least; values with one alone are left
    out.
    """
    if runs.empty:
        return []
    atoms = runs[runs["family"].isin(ATOM_FAMILIES)]
    grids = []
    for down, across in _PAIRS:
        if not {down, across} <= set(varying):
            continue
        others = [name for name in varying if name not in (down, across, "learning_rate") and name in atoms]
        marked = atoms.assign(_rest=[_described(row, others) for row in atoms.to_dict("records")])
        for rest, group in marked.groupby("_rest", sort=False):
            cells = _crossed(_cells(group, down, across, interval))
            if len(cells):
                grids.append(Grid(_NAMES[down], _NAMES[across], cells, rest))
    return grids


def _described(row: dict, names: list[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(row.get(name))}" for name in names)


def _value(value: object) -> object:
    """None, NaN, 0 and an empty list all mean that a setting takes no part; 2.0 of a table with gaps is 2."""
    if value is None or value is False or (isinstance(value, float) and pd.isna(value)) or value in (0, [], ()):
        return _NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return str(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _cells(runs: pd.DataFrame, down: str, across: str, kind: str) -> pd.DataFrame:
    values = runs.assign(row=runs[down].map(_value), column=runs[across].map(_value))
    cells = []
    for (row, column), group in values.groupby(["row", "column"], sort=False):
        by_seed = group.groupby("seed")["test_accuracy"].mean()
        place = {"row": row, "column": column, "trained": int(group["trained"].iloc[0]), "seeds": len(by_seed)}
        cells.append({**place, **accuracy_row(by_seed.tolist(), kind)})
    cells.sort(key=lambda cell: [level_rank(None if cell[at] == _NONE else cell[at]) for at in ("row", "column")])
    return pd.DataFrame(cells)


def _crossed(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that share their row and their column with others; the rest were not varied against each other."""
    while len(cells):
        shared = [cells.groupby(name, sort=False)[name].transform("size") > 1 for name in ("row", "column")]
        kept = cells[shared[0] & shared[1]]
        if len(kept) == len(cells):
            break
        cells = kept
    return cells
