"""How far tuning moved the atoms of each layer: from a run's table of layers, else from the adapter beside its record.

The table holds the error by layer and the change of the weight too. An adapter, all that older runs have, holds the
change dD of plain atoms alone.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from ..errors import FiltersubError
from ..records import read_table

# as experiment.saved_weights and experiment.layer_tables name them, which would import torch
_FOLDER, _WEIGHTS, _CONFIG = "adapter", "adapter_model.safetensors", "adapter_config.json"
_TABLE = "layers.csv"
_NAME = re.compile(r"base_model\.model\.(.+)\.filtersub_atoms")
#: measures by layer -> what a reader calls them
MEASURES = {
    "mean_change": "mean norm of the change",
    "largest_change": "largest norm of the change",
    "relative_error": "error before tuning",
    "weight_change": "change of the weight",
}


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
                "error": "" if worst is None else f"{worst['layer']} ({100 * worst['relative_error']:.3g} %)",
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
