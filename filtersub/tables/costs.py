"""What accuracy costs in time and memory, beside trained parameters."""

from __future__ import annotations

import pandas as pd

from ..collect import ATOM_FAMILIES, settings_table
from ..intervals import on_pareto_front
from ..report.numbers import percent

#: column -> what a reader calls it; less is better in each
COSTS = {
    "trained": "trained parameters",
    "seconds_per_step": "seconds a step",
    "added_memory_bytes": "bytes added by training",
    "peak_memory_bytes": "bytes at the peak",
    "step_flops": "operations a step",
    "saved_bytes": "bytes saved",
    "wall_seconds": "seconds in all",
    "decomposition_seconds": "seconds of decomposition",
}


def cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    """collect.settings_table with every cost of COSTS that was measured, a mean over seeds, NaN where it was not.

    ``front_NAME`` tells whether no setting of the same task costs as little or less of NAME and is as accurate or more;
    ``on_fronts`` counts the costs for which that holds. Settings without a measurement are on no front of it.
    """
    settings = settings_table(runs)
    if settings.empty:
        return settings
    measured = [name for name in COSTS if name in runs and runs[name].notna().any()]
    means = runs.groupby("label", sort=False)[measured].mean()
    table = settings.assign(**{name: settings["label"].map(means[name]) for name in measured})
    for name in measured:
        front = pd.Series(False, index=table.index)
        for _, group in table.dropna(subset=[name]).groupby("task", sort=False):
            front[group.index] = on_pareto_front(group[name], group["test_accuracy"])
        table[f"front_{name}"] = front
    return table.assign(on_fronts=table[[f"front_{name}" for name in measured]].sum(axis=1))


def measured_costs(table: pd.DataFrame) -> list[str]:
    """The costs of cost_table that differ between settings: what is worth an axis."""
    return [name for name in COSTS if f"front_{name}" in table and table[name].nunique() > 1]


def cost_sentence(table: pd.DataFrame) -> str:
    """The most accurate setting, and for each cost the cheapest and the dearest, as multiples of full tuning's."""
    if table.empty:
        return "No tuning run that was judged on test images is there yet."
    best = table.loc[table["test_accuracy"].idxmax()]
    text = f"{best['label']} is the most accurate of {len(table)} settings, {percent(best['test_accuracy'])}."
    full = table[table["family"] == "full tuning"]
    atoms = table[table["family"].isin(ATOM_FAMILIES)]
    if len(full) != 1 or atoms.empty:
        return f"{text} Costs are not set against full tuning, which is not there once, or no atoms are."
    ours = atoms.loc[atoms["test_accuracy"].idxmax()]
    parts = [
        f"{ours[name] / full[name].iloc[0]:.3g} times its {words}"
        for name, words in COSTS.items()
        if name in table and full[name].iloc[0] > 0 and pd.notna(ours[name])
    ]
    gap = ours["test_accuracy"] - full["test_accuracy"].iloc[0]
    return (
        f"{text} The most accurate atoms, {ours['label']}, lie {100 * gap:+.1f} points from full tuning and take "
        f"{', '.join(parts)}."
    )
