"""Several tasks in one report: which settings compare over which tasks, and their means over these."""

from typing import Any

import pandas as pd

from ..intervals import accuracy_row

_COUNTS = ("trainable", "head", "trained", "total")


def comparable(settings: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy by ``method_label`` (rows) and ``task`` (columns), of settings that were run on all of these
    tasks; empty where no two settings share two tasks.

    Of all such tables the one with most cells is taken, of equal ones that with most settings: a run that is missing
    costs either its setting or its task.

    Parameters
    ----------
    settings : collect.settings_table
    """
    table = settings.pivot_table(index="method_label", columns="task", values="test_accuracy", sort=False)
    counts = table.notna().sum(axis="columns")
    found = pd.DataFrame()
    for least in sorted(set(counts), reverse=True):
        block = table[counts >= least].dropna(axis="columns")
        if min(block.shape) >= 2 and block.size >= found.size:
            found = block
    return found


def over_tasks(settings: pd.DataFrame, interval: str = "t") -> pd.DataFrame:
    """One row a setting of ``comparable``: settings_table over tasks, which take the place of seeds.

    ``test_accuracy``, counts (whole numbers) and costs are means over the tasks; ``seeds`` numbers the tasks,
    ``by_seed`` is the accuracy on each, ``lowest``, ``highest``, ``low`` and ``high`` are of these; ``unit`` is "task".

    Parameters
    ----------
    settings : collect.settings_table of several tasks
    interval : a name in intervals.INTERVALS
    """
    table = comparable(settings)
    rows = []
    for label, values in table.iterrows():
        own = settings[(settings["method_label"] == label) & settings["task"].isin(table.columns)]
        row: dict[str, Any] = {"label": label, "method_label": label, "family": own["family"].iloc[0], "task": ""}
        row |= {**accuracy_row(values.tolist(), interval), "seeds": list(range(len(values)))}
        row["by_seed"] = values.tolist()
        rows.append({**row, **{name: round(own[name].mean()) for name in _COUNTS}, "unit": "task"})
    return pd.DataFrame(rows)


def means_over_tasks(runs: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """The runs of tuning_table as means over the tasks of ``comparable``, one row a setting and seed, ``label`` without
    the task. A seed counts where it was run on all of these tasks; where none was, the mean over seeds stands for one.
    """
    table = comparable(settings)
    if table.empty:
        return pd.DataFrame()
    kept = runs[runs["method_label"].isin(table.index) & runs["task"].isin(table.columns)]
    keys, values = ["method_label", "family"], ["test_accuracy", "trained", "trainable", "head", "total"]
    by_task = kept.groupby([*keys, "seed", "task"], sort=False, as_index=False)[values].mean()
    rows = []
    for _, own in by_task.groupby(keys, sort=False):
        whole = own[own.groupby("seed")["task"].transform("nunique") == table.shape[1]]
        if whole.empty:
            whole = own.groupby([*keys, "task"], sort=False, as_index=False)[values].mean().assign(seed=0)
        rows.append(whole.groupby([*keys, "seed"], sort=False, as_index=False)[values].mean())
    return pd.concat(rows, ignore_index=True).rename(columns={"method_label": "label"}).assign(task="")


def history_over_tasks(history: pd.DataFrame, runs: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """The epochs of history_table as means over the tasks of ``comparable``, ``label`` without the task; an epoch and
    seed that some of these tasks lack is left out, as is a measure that they lack there."""
    table = comparable(settings)
    if table.empty or history.empty:
        return pd.DataFrame()
    named = runs.assign(folder=runs["folder"].map(str)).set_index("folder")[["method_label", "task"]]
    told = history.join(named, on="folder", how="inner")
    told = told[told["method_label"].isin(table.index) & told["task"].isin(table.columns)]
    measures = [name for name in told.select_dtypes("number") if name not in ("epoch", "seed")]
    by_task = told.groupby(["method_label", "family", "seed", "epoch", "task"], sort=False)[measures].mean()
    over = by_task.groupby(["method_label", "family", "seed", "epoch"], sort=False)
    means = over.mean().where(over.count() == table.shape[1])
    return means.dropna(how="all").reset_index().rename(columns={"method_label": "label"})
