"""What accuracy costs: time, memory and training images, beside trained parameters, and steps by optimiser."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..collect import ATOM_FAMILIES, settings_table, tuning_table
from ..data.catalogue import catalogue
from ..intervals import accuracy_row, on_pareto_front, points
from ..records import Record
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
BASELINE = "adamw"
_ONE_SEED = "Some have one seed, so their spread is not known."


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
    """The most accurate setting of each task, and what the most accurate atoms cost as multiples of full tuning."""
    if table.empty:
        return "No tuning run that was judged on test images is there yet."
    if table["task"].nunique() > 1:
        return " ".join(f"On {task}: {_cost_text(rows)}" for task, rows in table.groupby("task", sort=False))
    return _cost_text(table)


def _cost_text(table: pd.DataFrame) -> str:
    """Of settings of one task."""
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


def size_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a method, task and number of training images, the methods by what they train.

    Columns: label (of the run, which leaves the number of images and of epochs open), family, data, model, images,
    test_accuracy (mean over seeds), lowest, highest, low, high (95 % t interval; NaN for one seed), seeds, trained,
    epochs. Runs on all images of a set without a description, whose number is not recorded, are left out.
    """
    runs = tuning_table(records)
    if runs.empty:
        return pd.DataFrame()
    runs = runs.assign(label=[records[folder].label for folder in runs["folder"]], images=training_images(runs))
    rows = []
    grouped = runs.dropna(subset=["images"]).groupby(["label", "family", "data", "model", "images"], sort=False)
    for (label, family, data, model, images), group in grouped:
        by_seed = group.groupby("seed")["test_accuracy"].mean()
        row = {"label": label, "family": family, "data": data, "model": model, "images": int(images)}
        row |= {**accuracy_row(by_seed.tolist()), "seeds": len(by_seed), "trained": int(group["trained"].iloc[0])}
        rows.append({**row, "epochs": ", ".join(map(str, sorted(set(group["epochs"]))))})
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["trained", "label", "images"], ignore_index=True)


def size_sentence(table: pd.DataFrame) -> str:
    """The most accurate method of each task at each number of images, and the largest spread over seeds."""
    if table.empty:
        return "No tuning run whose number of training images is known is there yet."
    parts = []
    differing = [name for name in ("data", "model") if table[name].nunique() > 1]
    for (*task, images), group in table.groupby([*differing, "images"], sort=not differing):
        best = group.loc[group["test_accuracy"].idxmax()]
        where = "".join(f"{name}, " for name in task)
        parts.append(f"{where}{images:,} images: {best['label']} {percent(best['test_accuracy'])}")
    text = f"The most accurate at {'; '.join(parts)}."
    seeds, widest = table["seeds"].min(), (table["highest"] - table["lowest"]).max()
    known = f"Over {seeds} seeds or more no cell spreads more than {points(widest, '')} points."
    return f"{text} {known if seeds > 1 else _ONE_SEED}"


def training_images(runs: pd.DataFrame) -> list[float]:
    """How many images each run of tuning_table trains on; NaN where that is not recorded."""
    whole = runs["data"].map({name: float(described.train) for name, described in catalogue().items()})
    asked = runs["n_train"].astype(float) if "n_train" in runs else whole
    return asked.fillna(whole).tolist()


def optimiser_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a task, setting, optimiser and number of epochs, by the steps that a whole run of so many epochs takes.

    Columns: setting (label without the optimiser), label, family, optimizer, data, model, epochs, steps, those of
    intervals.accuracy_row, by_seed, seeds, seconds_per_step (mean), seconds (steps x seconds_per_step: without
    judging), learning_rate (where it was chosen, the chosen ones). Runs on all images of a set without a description,
    whose number is not recorded, are left out.
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
        steps, seconds = int(group["steps"].iloc[0]), group["seconds_per_step"].mean()
        row |= {"setting": row["label"].removesuffix(", SOAP"), "steps": steps, **accuracy_row(by_seed.tolist())}
        row |= {"by_seed": by_seed.to_dict(), "seeds": len(by_seed)}
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
    return f"{' '.join(parts)} {f'Means over {seeds} seeds or more.' if seeds > 1 else _ONE_SEED}"


def _rate(record: Record) -> float:
    chosen = record.choices.get("learning_rate", {}).get("chosen")
    return float(record.parameters["learning_rate"] if chosen is None else chosen)


def _steps(images: float, record: Record) -> float:
    """Steps of the whole run; the last, smaller batch of an epoch is dropped where more than one remains."""
    batch, epochs = record.parameters["batch_size"], record.parameters["epochs"]
    an_epoch = images // batch if images >= 2 * batch else -(-images // batch)
    return epochs * an_epoch
