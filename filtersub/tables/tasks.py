"""Does what holds on one task, a network and a data set, hold on the others?"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import pandas as pd

from ..collect import ATOM_FAMILIES, settings_table, tuning_table
from ..errors import FiltersubError
from ..intervals import SIGNIFICANT, Difference, holm, paired_difference, points
from ..percentages import NBSP
from ..records import Record
from ..report.effects import level_rank, level_text
from ..report.over_tasks import comparable
from ..varying import TASK, varying_parameters

_STEPS = {"atoms": "m", "expansion": "m₁", "block": "k_c"}
_NO_DIFFERENCE = {*TASK, "learning_rate"}  # a rate follows what is tuned


def task_accuracies(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a setting of a task: model, data, task, method_label, family, trainable, test_accuracy (mean over seeds),
    lowest, highest, seeds, by_seed, and ``way``: how much of the way from linear probing to full tuning it goes, 0 to 1
    between the two and NaN where a task lacks one of them, or full tuning is no better than the head alone.

    Raises FiltersubError where the records are of fewer than two tasks.
    """
    return _accuracies(tuning_table(records))


def _accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    """task_accuracies of the runs of tuning_table."""
    tasks = [] if runs.empty else [task for task in dict.fromkeys(runs["task"]) if task]
    if len(tasks) < 2:
        raise FiltersubError(
            "tasks are compared where runs differ in model, data, images or epochs, and these are of one task"
        )
    settings = settings_table(runs)
    for name in ("model", "data"):
        settings[name] = settings["task"].map(runs.drop_duplicates("task").set_index("task")[name])
    settings["way"] = float("nan")
    for _, members in settings.groupby("task"):
        ends = members.groupby("family")["test_accuracy"].mean()
        if ends.get("full tuning", float("nan")) > ends.get("head only", float("nan")):
            way = (members["test_accuracy"] - ends["head only"]) / (ends["full tuning"] - ends["head only"])
            settings.loc[members.index, "way"] = way
    first = ["model", "data", "task", "method_label", "family", "trainable", "test_accuracy"]
    return settings[[*first, "lowest", "highest", "seeds", "by_seed", "way"]]


def task_steps(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a step and task: step (text), task, model, data, difference of the test accuracies with low, high and
    p_value (paired t test over seeds, corrected by Holm for the tasks of the step; NaN for one seed).

    Steps are two settings of atoms that differ in m, m₁ or k_c alone, and the setting of atoms that is most accurate on
    average over the tasks against each setting without atoms. A task takes part where it has both.
    """
    runs = tuning_table(records)
    settings = _accuracies(runs)
    rows = []
    for step, (old, new) in _steps(records, runs, settings).items():
        gaps = []
        for task, members in settings.groupby("task", sort=False):
            pair = members.set_index("method_label")
            if {old, new} <= set(pair.index):
                where = {"task": task, "model": pair["model"].iloc[0], "data": pair["data"].iloc[0]}
                gaps.append({"step": step, **where, **asdict(_gap(pair, new, old))})
        corrected = holm([gap["p_value"] for gap in gaps])
        rows += [{**gap, "p_value": p_value} for gap, p_value in zip(gaps, corrected, strict=True)]
    columns = ["step", "task", "model", "data", "difference", "low", "high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def steps_elsewhere(steps: pd.DataFrame, model: str, data: str) -> pd.DataFrame:
    """One row a step of task_steps: ``here``, its difference on the task of this model and data (NaN where that has
    none), ``elsewhere``, the mean over the other tasks with low and high (95 % t interval over these tasks) and
    p_value, ``tasks``, how many they are, ``above`` and ``below``, on how many of them it is told apart from zero, and
    ``verdict``: holds, turns round, or open.
    """
    rows = []
    for step, members in steps.groupby("step", sort=False):
        own = (members["model"] == model) & (members["data"] == data)
        others, here = members[~own], members.loc[own, "difference"]
        sure = others[others["p_value"] < SIGNIFICANT]["difference"]
        mean = paired_difference(others["difference"].tolist()) if len(others) else Difference(*[float("nan")] * 4)
        row = {"step": step, "here": here.iloc[0] if len(here) else float("nan"), "elsewhere": mean.difference}
        row |= {"low": mean.low, "high": mean.high, "p_value": mean.p_value}
        row |= {"tasks": len(others), "above": int((sure > 0).sum()), "below": int((sure < 0).sum())}
        rows.append({**row, "verdict": _verdict(row)})
    return pd.DataFrame(rows)


def elsewhere_sentence(summary: pd.DataFrame, model: str, data: str) -> str:
    """What holds on the other tasks, what turns round, what stays open: one line a step, as Markdown."""
    if summary.empty:
        return "No two settings that can be compared are on any of the tasks yet."
    order = {"turns round": 0, "open": 1, "holds": 2}
    lines = []
    for row in sorted(summary.to_dict("records"), key=lambda row: order[row["verdict"]]):
        here = f"{points(row['here'])} points here" if row["here"] == row["here"] else "not run here"
        there = f"{points(row['elsewhere'])} on average over {row['tasks']} other tasks"
        if row["tasks"] > 1:
            there += f" (95{NBSP}% interval over tasks {points(row['low'])} to {points(row['high'])})"
        told = f"told apart from zero on {row['above']} of them above and on {row['below']} below"
        lines.append(f"- **{row['step']}: {row['verdict']}.** {here}, {there}; {told}.")
    return "\n".join([f"Here is {model} on {data}.\n", *lines])


def _verdict(row: Mapping[str, float]) -> str:
    """Whether the interval over the other tasks leaves zero, and on which side of it the first task lies."""
    if not (row["low"] > 0 or row["high"] < 0) or row["here"] != row["here"]:
        return "open"
    return "holds" if row["here"] * row["elsewhere"] > 0 else "turns round"


def _steps(records: Mapping[Path, Record], runs: pd.DataFrame, settings: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """What a reader calls the step: (label before, label after)."""
    record_of = {row.method_label: records[row.folder] for row in runs.itertuples()}
    atoms = list(dict.fromkeys(runs.loc[runs["family"].isin(ATOM_FAMILIES), "method_label"]))
    steps = {}
    for one, other in combinations(atoms, 2):
        pair = [record_of[one], record_of[other]]
        differing = [name for name in varying_parameters(pair) if name not in _NO_DIFFERENCE]
        if len(differing) == 1 and differing[0] in _STEPS:
            (name,) = differing
            value = {label: record_of[label].parameters.get(name) for label in (one, other)}
            old, new = sorted(value, key=lambda label: level_rank(value[label]))
            step = f"{_STEPS[name]} from {level_text(value[old])} to {level_text(value[new])}"
            steps[step if step not in steps else f"{step}, {new}"] = (old, new)
    shared = comparable(settings)  # a mean over other tasks would favour what was run on the easy ones
    means = shared.loc[shared.index.intersection(atoms)].mean(axis="columns")
    if len(means):
        best = means.idxmax()
        steps |= {f"{best} against {label}": (label, best) for label in record_of if label not in atoms}
    return steps


def _gap(settings: pd.DataFrame, new: str, old: str) -> Difference:
    """One setting of a task less another, paired by seed."""
    ours, theirs = (dict(zip(*settings.loc[label, ["seeds", "by_seed"]], strict=True)) for label in (new, old))
    shared = [seed for seed in ours if seed in theirs]
    if not shared:
        raise FiltersubError(
            f"{new} and {old} share no seed on {settings['task'].iloc[0]}; run both with the same seeds"
        )
    return paired_difference([ours[seed] - theirs[seed] for seed in shared])
