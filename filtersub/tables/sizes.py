"""Accuracy against the number of training images, method by method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..collect import tuning_table
from ..data.catalogue import catalogue
from ..intervals import interval
from ..records import Record
from ..report.numbers import percent


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
        low, high = interval(by_seed.tolist(), bounds=(0.0, 1.0))
        row = {"label": label, "family": family, "data": data, "model": model, "images": int(images)}
        row |= {"test_accuracy": by_seed.mean(), "lowest": by_seed.min(), "highest": by_seed.max()}
        row |= {"low": low, "high": high, "seeds": len(by_seed), "trained": int(group["trained"].iloc[0])}
        rows.append({**row, "epochs": ", ".join(map(str, sorted(set(group["epochs"]))))})
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["trained", "label", "images"], ignore_index=True)


def size_sentence(table: pd.DataFrame) -> str:
    """The most accurate method at each number of images, and the largest spread over seeds."""
    if table.empty:
        return "No tuning run whose number of training images is known is there yet."
    parts = []
    for images, group in table.groupby("images"):
        best = group.loc[group["test_accuracy"].idxmax()]
        parts.append(f"{images:,} images: {best['label']} {percent(best['test_accuracy'])}")
    text = f"The most accurate at {'; '.join(parts)}."
    seeds = table["seeds"].min()
    if seeds < 2:
        return f"{text} Some have one seed, so their spread is not known."
    widest = (table["highest"] - table["lowest"]).max()
    return f"{text} Over {seeds} seeds or more no cell spreads more than {percent(widest)}."


def training_images(runs: pd.DataFrame) -> list[float]:
    """How many images each run of tuning_table trains on; NaN where that is not recorded."""
    known = {name: float(described.train) for name, described in catalogue().items()}
    asked = runs["n_train"] if "n_train" in runs else pd.Series(float("nan"), index=runs.index)
    return [
        known.get(data, float("nan")) if pd.isna(count) else float(count)
        for data, count in zip(runs["data"], asked, strict=True)
    ]
