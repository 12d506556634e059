"""How far tuning moved the atoms of each layer, from the adapters beside the records.

An adapter holds the change dD of the atoms alone. The atoms before tuning and the error by layer are in no record of a
tuning run, so neither is shown.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from ..errors import FiltersubError

# as experiment.saved_weights names them, which would import torch
_FOLDER, _WEIGHTS, _CONFIG = "adapter", "adapter_model.safetensors", "adapter_config.json"
_NAME = re.compile(r"base_model\.model\.(.+)\.filtersub_atoms")


@dataclass(frozen=True)
class LayerChanges:
    """One run's layers in the network's order.

    Attributes
    ----------
    label, seed : of the run
    layers : by name the norms (m,) of the change of its atoms, which have norm 1 before tuning
    """

    label: str
    seed: int
    layers: dict[str, np.ndarray]

    @property
    def means(self) -> dict[str, float]:
        """The mean norm of each layer's changes."""
        return {name: float(norms.mean()) for name, norms in self.layers.items()}


def layer_changes(runs: pd.DataFrame, odd: list[str]) -> list[LayerChanges]:
    """For each setting of tuning_table the run of the lowest seed whose adapter holds changes of plain atoms.

    Atoms over atoms (m_1) are left out: how far such an atom moves depends on coefficients that no file holds. ``odd``
    gets a line for each adapter that cannot be read.
    """
    found: dict[str, LayerChanges] = {}
    for run in runs.sort_values("seed", kind="stable").to_dict("records") if len(runs) else []:
        folder = run["folder"] / _FOLDER
        if run["label"] in found or not (folder / _WEIGHTS).is_file():
            continue
        try:
            layers = _norms(folder)
        except FiltersubError as error:
            odd.append(str(error))
            continue
        if layers:
            found[run["label"]] = LayerChanges(run["label"], int(run["seed"]), layers)
    return [found[label] for label in dict.fromkeys(runs["label"]) if label in found] if found else []


def change_rows(changes: list[LayerChanges]) -> list[dict[str, object]]:
    """A row a setting for the page: ``label``, ``seed``, ``layers``, ``mean`` over all atoms, ``most`` (the three that
    moved most) and ``least`` (the one that moved least)."""
    rows = []
    for one in changes:
        ranked = sorted(one.means.items(), key=lambda item: -item[1])
        most, least = (", ".join(f"{name} ({mean:.3g})" for name, mean in few) for few in (ranked[:3], ranked[-1:]))
        mean = f"{np.concatenate(list(one.layers.values())).mean():.3g}"
        told = {"layers": len(ranked), "mean": mean, "most": most, "least": least}
        rows.append({"label": one.label, "seed": one.seed, **told})
    return rows


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
