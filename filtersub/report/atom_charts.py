"""Atoms of a layer as pictures, before and after tuning: of one run, and of two runs beside each other."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import FiltersubError
from ..records import read_table

_TABLE = "atoms.csv"  # as experiment.layer_tables names it, which would import torch
_COLUMNS = ["layer", "atom", "height", "width", "before", "after"]
_MOST_CHARACTERS = 1_500_000  # of all atoms in a page
_SCALE = 100  # whole numbers up to this stand for an atom's entries; charts.yaml has it too


def layer_atoms(runs: pd.DataFrame, rows: Sequence[dict[str, Any]], odd: list[str]) -> list[dict[str, Any]]:
    """A row a run and layer: _id (of the run), run (its name for people), setting, layer, _w and _h (size of an atom),
    _atoms (their numbers in the layer), before, after and change (whole numbers, atom by atom and row by row), _unit
    and _change_unit (what 1 of them stands for).

    Runs of lower seeds come first, and a page holds 1.5 MB of atoms: of more runs the later ones are left out.

    Parameters
    ----------
    runs, rows : collect.tuning_table, and table.table_rows of it
    odd : gets a line for each table that cannot be read
    """
    found, size = [], 0
    ids = [row["id"] for row in rows]
    for run in runs.assign(id=ids).sort_values("seed", kind="stable").to_dict("records") if len(runs) else []:
        path = run["folder"] / _TABLE
        if not path.is_file():
            continue
        try:
            layers = [_row(name, part) for name, part in read_table(path)[_COLUMNS].groupby("layer", sort=False)]
        except (FiltersubError, KeyError, ValueError) as error:
            odd.append(f"{path} is no table of atoms: {error}")
            continue
        named = {"_id": run["id"], "run": f"{run['label']}, seed {run['seed']}", "setting": run["label"]}
        made = [{**named, **layer} for layer in layers]
        size += len(json.dumps(made, separators=(",", ":")))
        if size > _MOST_CHARACTERS and found:
            break
        found += made
    return found


def pictures(row: dict[str, Any]) -> dict[str, np.ndarray]:
    """``before``, ``after`` and ``change`` of a row of layer_atoms as (n_atoms, height, width)."""
    units = {"before": row["_unit"], "after": row["_unit"], "change": row["_change_unit"]}
    return {name: np.reshape(row[name], (-1, row["_h"], row["_w"])) * unit for name, unit in units.items()}


def moved_most(atoms: Sequence[dict[str, Any]], label: str, most: int = 3) -> list[dict[str, Any]]:
    """The layers of a setting's first run whose atoms moved most, in the network's order."""
    own = [row for row in atoms if row["setting"] == label]
    own = [row for row in own if row["_id"] == own[0]["_id"]]
    norms = [float(np.linalg.norm(pictures(row)["change"], axis=(1, 2)).mean()) for row in own]
    chosen = sorted(range(len(own)), key=lambda n: -norms[n])[:most]
    return [own[n] for n in sorted(chosen)]


def _row(name: str, part: pd.DataFrame) -> dict[str, Any]:
    before, after = (np.array([text.split() for text in part[side]], float) for side in ("before", "after"))
    height, width = int(part["height"].iloc[0]), int(part["width"].iloc[0])
    if not before.shape == after.shape == (len(part), height * width):
        raise ValueError(f"the atoms of {name} are not {height} x {width} numbers")
    largest, moved = (float(np.abs(values).max()) for values in ((before, after), after - before))
    unit, change_unit = (value / _SCALE or 1.0 for value in (largest, moved))
    whole = {"before": before / unit, "after": after / unit, "change": (after - before) / change_unit}
    sizes = {"layer": str(name), "_w": width, "_h": height, "_atoms": [int(atom) for atom in part["atom"]]}
    entries = {side: np.rint(values).astype(int).ravel().tolist() for side, values in whole.items()}
    return {**sizes, **entries, "_unit": float(f"{unit:.4g}"), "_change_unit": float(f"{change_unit:.4g}")}
