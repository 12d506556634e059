"""Accuracy against steps and seconds of training, optimiser by optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..collect import tuning_table
from ..intervals import interval
from ..records import Record
from ..report.numbers import percent
from .sizes import training_images

BASELINE = "adamw"


def optimiser_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a task, setting, optimiser and number of epochs, by the steps that a whole run of so many epochs takes.

    Columns: setting (label without the optimiser), label, family, optimizer, data, model, epochs, steps, test_accuracy
    (mean over seeds), low, high (95 % t interval; NaN for one seed), by_seed, seeds, seconds_per_step (mean), seconds
    (steps x seconds_per_step: without judging), learning_rate (where it was chosen, the chosen ones). Runs on all
    images of a set without a description, whose number is not recorded, are left out.
    """
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame()
    found = [records[folder] for folder in runs["folder"]]
    runs = runs.assign(
        label=[record.label for record in found],
        rate=[_rate(record) for record in found],
        steps=[_steps(images, record) for images, record in zip(training_images(runs), found, strict=True)],
    ).dropna(subset=["steps", "seconds_per_step"])
    keys, rows = ["label", "family", "optimizer", "data", "model", "epochs"], []
    for names, group in runs.groupby(keys, sort=False):
        row, by_seed = dict(zip(keys, names, strict=True)), group.groupby("seed")["test_accuracy"].mean()
        low, high = interval(by_seed.tolist(), bounds=(0.0, 1.0))
        steps, seconds = int(group["steps"].iloc[0]), group["seconds_per_step"].mean()
        row |= {"setting": row["label"].removesuffix(", SOAP"), "steps": steps, "test_accuracy": by_seed.mean()}
        row |= {"low": low, "high": high, "by_seed": by_seed.to_dict(), "seeds": len(by_seed)}
        row |= {"seconds_per_step": seconds, "seconds": steps * seconds}
        rows.append({**row, "learning_rate": ", ".join(sorted({f"{rate:g}" for rate in group["rate"]}))})
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["setting", "optimizer", "steps"], ignore_index=True)


def steps_to_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """What each optimiser needs for the mean accuracy that AdamW reaches in its longest runs, a row a setting and task.

    Columns: data, setting, optimizer, wanted (that accuracy), its_steps (AdamW's), steps (the fewest whose mean is as
    high; NaN where none is), of_steps (steps / its_steps), step_cost (seconds of a step over AdamW's).
    """
    rows = []
    for (data, setting), group in table.groupby(["data", "setting"], sort=False) if len(table) else ():
        ours = group[group["optimizer"] == BASELINE]
        if ours.empty:
            continue
        longest = ours.loc[ours["steps"].idxmax()]
        for optimizer, other in group[group["optimizer"] != BASELINE].groupby("optimizer", sort=False):
            enough = other.loc[other["test_accuracy"] >= longest["test_accuracy"], "steps"]
            steps = float(enough.min()) if len(enough) else float("nan")
            row = {"data": data, "setting": setting, "optimizer": optimizer, "wanted": longest["test_accuracy"]}
            row |= {"its_steps": int(longest["steps"]), "steps": steps, "of_steps": steps / longest["steps"]}
            cost = other["seconds_per_step"].median() / ours["seconds_per_step"].median()
            rows.append({**row, "step_cost": cost})
    columns = ["data", "setting", "optimizer", "wanted", "its_steps", "steps", "of_steps", "step_cost"]
    return pd.DataFrame(rows, columns=columns)


def optimiser_sentence(table: pd.DataFrame) -> str:
    """The fewest steps for AdamW's accuracy, setting by setting, those that no run reaches it in too."""
    parts = []
    for row in steps_to_accuracy(table).to_dict("records"):
        wanted, name = percent(row["wanted"]), row["optimizer"].upper()
        if row["steps"] == row["steps"]:
            reached = f"in {row['steps']:,.0f}, {row['of_steps']:.2f} of them"
        else:
            reached = "in none of its runs"
        parts.append(
            f"{row['setting']} ({row['data']}): {name} reaches AdamW's {wanted} after {row['its_steps']:,} steps "
            f"{reached}; a step takes {row['step_cost']:.2f} of AdamW's time."
        )
    if not parts:
        return "No setting has runs of AdamW and of another optimiser yet."
    seeds = int(table["seeds"].min())
    known = f"Means over {seeds} seeds or more." if seeds > 1 else "Some have one seed, so their spread is not known."
    return f"{' '.join(parts)} {known}"


def _rate(record: Record) -> float:
    chosen = record.choices.get("learning_rate", {}).get("chosen")
    return float(record.parameters["learning_rate"] if chosen is None else chosen)


def _steps(images: float, record: Record) -> float:
    """Steps of the whole run; the last, smaller batch of an epoch is dropped where more than one remains."""
    batch, epochs = record.parameters["batch_size"], record.parameters["epochs"]
    an_epoch = images // batch if images >= 2 * batch else -(-images // batch)
    return epochs * an_epoch
