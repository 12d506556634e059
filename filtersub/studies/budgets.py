"""The runs of an allotment_study, budget by budget: pairs that compare, groups to draw, and what they say in words."""

from dataclasses import asdict

import pandas as pd

from ..intervals import difference, holm

BY_LAYER, FOR_ALL = "by layer", "for all layers"


def allotment_pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a budget: the allotment by layer against the most accurate setting for all layers.

    Columns: budget, by_layer and for_all_layers (mean test accuracies over seeds), trainable_by_layer and
    trainable_for_all, setting (that for all layers), difference with low, high and p_value (Welch's t test over seeds,
    corrected by Holm for the number of budgets; NaN for one seed), seeds. The setting for all layers is chosen by its
    test accuracy, which favours it.
    """
    rows = []
    for budget, group in runs.groupby("budget", sort=False):
        ours, others = group[group["kind"] == BY_LAYER], group[group["kind"] == FOR_ALL]
        best = others.groupby("setting")["test_accuracy"].mean().idxmax()
        theirs = others[others["setting"] == best]
        gap = difference(ours["test_accuracy"].tolist(), theirs["test_accuracy"].tolist())
        row = {"budget": budget, "setting": best, "seeds": ours["seed"].nunique(), **asdict(gap)}
        row |= {"by_layer": ours["test_accuracy"].mean(), "for_all_layers": theirs["test_accuracy"].mean()}
        row |= {"trainable_by_layer": ours["trainable"].iloc[0], "trainable_for_all": theirs["trainable"].iloc[0]}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p_value=holm(table["p_value"].tolist()))


def allotment_groups(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs as plots.equal_accuracies takes them: a group a budget, a row a setting, the most accurate first."""
    rows = []
    for number, (budget, group) in enumerate(runs.groupby("budget", sort=False), start=1):
        for (kind, setting), found in group.groupby(["kind", "setting"], sort=False):
            row = {"group": number, "task": "", "method_label": setting, "trainable": budget}
            row |= {"family": "spatial and block atoms" if kind == BY_LAYER else "spatial atoms"}
            accuracies = found["test_accuracy"]
            rows.append({**row, "test_accuracy": accuracies.mean(), "by_seed": accuracies.tolist()})
    table = pd.DataFrame(rows)
    return table.sort_values(["group", "test_accuracy"], ascending=[True, False], ignore_index=True)


def allotment_sentence(pairs: pd.DataFrame) -> str:
    """Budget by budget, how accurate the allotment by layer is and whether the difference is beyond noise."""
    parts = []
    for row in pairs.itertuples():
        told = (
            f"at most {row.budget:,} trained parameters, allotted by layer ({row.trainable_by_layer:,}): "
            f"{row.by_layer:.1%}, against {row.for_all_layers:.1%} for {row.setting} ({row.trainable_for_all:,}), a "
            f"difference of {row.difference:+.1%}"
        )
        if pd.isna(row.p_value):
            parts.append(f"{told} (one seed, so whether that is noise is not known)")
            continue
        beyond = "beyond noise" if row.p_value < 0.05 else "not beyond the noise of these seeds"
        parts.append(f"{told} ({row.low:+.1%} to {row.high:+.1%}, {row.seeds} seeds, p = {row.p_value:.2g}, {beyond})")
    return f"With {'; with '.join(parts)}."
