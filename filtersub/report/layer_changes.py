"""What tuning did to each layer: how far its atoms moved, from a run's table of layers, else from the adapter beside
its record; and its atoms as pictures, before and after.

The table holds the error by layer and the change of the weight too. An adapter, all that older runs have, holds the
change dD of plain atoms alone.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from ..errors import FiltersubError
from ..percentages import NBSP
from ..records import read_table

# as experiment.saved_weights and experiment.layer_tables name them, which would import torch
_FOLDER, _WEIGHTS, _CONFIG = "adapter", "adapter_model.safetensors", "adapter_config.json"
_TABLE = "layers.csv"
_ATOMS_TABLE = "atoms.csv"
_COLUMNS = ["layer", "atom", "height", "width", "before", "after"]
_MOST_CHARACTERS = 1_500_000  # of all atoms in a page
_SCALE = 100  # whole numbers up to this stand for an atom's entries; charts.yaml has it too
_NAME = re.compile(r"base_model\.model\.(.+)\.filtersub_atoms")
#: measures by layer -> what a reader calls them
MEASURES = {
    "mean_change": "mean norm of the change",
    "largest_change": "largest norm of the change",
    "relative_error": "error before tuning",
    "weight_change": "change of the weight",
}
#: those that are shares of a weight's norm; the others are in units of an atom's norm
SHARES = ("relative_error", "weight_change")


@dataclass(frozen=True)
class LayerChanges:
    """One run's layers in the network's order.

    Attributes
    ----------
    label, seed : of the run
    table : a row a layer: layer, atoms, mean_change and largest_change (norms of the change of its atoms, which have
        norm 1 before tuning), relative_error (of the kernels rebuilt before tuning) and weight_change (relative to the
        weight), both NaN where only an adapter tells
    """

    label: str
    seed: int
    table: pd.DataFrame

    @property
    def has_errors(self) -> bool:
        return bool(self.table["relative_error"].notna().any())


def layer_changes(runs: pd.DataFrame, odd: list[str]) -> list[LayerChanges]:
    """For each setting of tuning_table the run of the lowest seed whose table of layers, or whose adapter with changes
    of plain atoms, can be read.

    ``odd`` gets a line for each file that cannot be read.
    """
    found: dict[str, LayerChanges] = {}
    for run in runs.sort_values("seed", kind="stable").to_dict("records") if len(runs) else []:
        if run["label"] in found:
            continue
        try:
            table = _layers(run["folder"])
        except FiltersubError as error:
            odd.append(str(error))
            continue
        if table is not None and len(table):
            found[run["label"]] = LayerChanges(run["label"], int(run["seed"]), table)
    return [found[label] for label in dict.fromkeys(runs["label"]) if label in found] if found else []


def change_rows(changes: list[LayerChanges]) -> list[dict[str, Any]]:
    """A row a setting for the page: ``label``, ``seed``, ``layers`` (how many), ``mean`` over all atoms, and layers by
    name: ``most`` (the three that moved most), ``least``, ``error`` (rebuilt worst, empty where unknown)."""
    rows = []
    for one in changes:
        ranked = one.table.sort_values("mean_change", ascending=False, kind="stable")
        told = [f"{row.layer} ({row.mean_change:.3g})" for row in ranked.itertuples()]
        mean = np.average(one.table["mean_change"], weights=one.table["atoms"])
        worst = one.table.loc[one.table["relative_error"].idxmax()] if one.has_errors else None
        rows.append(
            {
                **{"label": one.label, "seed": one.seed, "layers": len(told), "mean": f"{mean:.3g}"},
                **{"most": ", ".join(told[:3]), "least": told[-1]},
                "error": "" if worst is None else f"{worst['layer']} ({100 * worst['relative_error']:.3g}{NBSP}%)",
            }
        )
    return rows


def _layers(folder: Path) -> pd.DataFrame | None:
    """The table of LayerChanges; None where a folder has none, or an adapter that is no filter-subspace of plain
    atoms."""
    path = folder / _TABLE
    if path.is_file():
        table = read_table(path)
        wanted = {"layer": object, "atoms": float, **dict.fromkeys(MEASURES, float)}
        try:
            return table[list(wanted)].astype({**wanted, "layer": str})
        except (KeyError, ValueError) as error:
            raise FiltersubError(f"{path} is no table of layers: {error}") from None
    norms = _norms(folder / _FOLDER) if (folder / _FOLDER / _WEIGHTS).is_file() else {}
    rows = [
        {"layer": name, "atoms": len(each), "mean_change": each.mean(), "largest_change": each.max()}
        for name, each in norms.items()
    ]
    return pd.DataFrame(rows).assign(relative_error=np.nan, weight_change=np.nan) if rows else None


def _norms(folder: Path) -> dict[str, np.ndarray]:
    """By layer, in the network's order, the norms of dD's rows; empty where atoms are expanded or there are none."""
    path = folder / _WEIGHTS
    try:
        with safe_open(path, "numpy") as file:
            names = {match[1]: match[0] for key in file.keys() if (match := _NAME.fullmatch(key))}  # noqa: SIM118
            changes = {name: file.get_tensor(key) for name, key in names.items()}
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise FiltersubError(f"{path} cannot be read: {error}") from None
    if any(change.ndim != 2 for change in changes.values()):
        return {}
    targets = config.get("target_modules") if isinstance(config, dict) else None
    order = {re.sub(r"\\(.)", r"\1", name): n for n, name in enumerate(str(targets).split("|"))}
    ordered = sorted(changes, key=lambda name: (order.get(name, len(order)), name))
    return {name: np.linalg.norm(changes[name].astype(np.float64), axis=1) for name in ordered}


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
        path = run["folder"] / _ATOMS_TABLE
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
