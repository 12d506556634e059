"""Records of generation as tables, beside the paper's Table 3 where they are of its task, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..records import Record
from .paper import ROWS, differing_settings, paper_table
from .record import GRID_FILE, KIND

_TASK = ["data", "distance_name", "images", "real_images"]  # only distances of one task compare
_ALWAYS = ["folder", "label", "method", "seed", *_TASK, "frechet", "trainable", "samples", "differs"]


def generation_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a run: data, label, method, seed, distances with their floors, counts, costs, the file of its samples.

    A folder that is named twice, by a relative path and by a whole one, is one run.

    frechet is nan where no distance was measured. The last column, differs, says in what a run is not the paper's task
    (paper.differing_settings); it is empty where it is.
    """
    once = {Path(folder).resolve(): (folder, record) for folder, record in records.items() if record.kind == KIND}
    rows = [_row(folder, record) for folder, record in once.values()]
    table = pd.DataFrame(rows, columns=None if rows else _ALWAYS)
    if "frechet" not in table:
        table["frechet"] = float("nan")
    return table.sort_values(["data", "trainable", "label", "seed"], ignore_index=True)


def _row(folder: Path, record: Record) -> dict[str, Any]:
    stated = ("data", "distance_name", "kernel_name", "images", "real_images", "floor_images")
    return {
        "folder": str(folder),
        "label": record.label,
        "method": record.parameters["method"],
        "seed": record.seed,
        **{name: record.environment.get(name) for name in stated},
        "learning_rate": record.parameters["learning_rate"],
        **record.metrics,
        **record.counts,
        **record.cost,
        "samples": str(Path(folder) / GRID_FILE),
        "differs": ", ".join(differing_settings(record)),
    }


def judged(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of generation_table that have a distance."""
    return runs[runs["frechet"].notna()]


def method_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, data set and distance of generation_table: means over seeds, lowest and highest distance.

    Distances in other features or of other numbers of images are rows of their own: they do not compare.
    """
    names = ["frechet", "kernel", "train_loss", "seconds_per_step", "peak_memory_bytes", "saved_bytes", "wall_seconds"]
    grouped = runs.groupby([*_TASK, "label", "method"], sort=False, dropna=False)
    table = grouped[[name for name in names if name in runs]].mean()
    table["lowest"], table["highest"] = grouped["frechet"].min(), grouped["frechet"].max()
    table["trainable"], table["total"] = grouped["trainable"].first(), grouped["total"].first()
    table["seeds"] = grouped["seed"].agg(lambda seeds: sorted(set(seeds)))
    return table.reset_index()


def beside_paper(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 3 with what was measured under its settings.

    Returns data, method, paper_fid, then measured (mean over seeds), label, trainable and seeds, nan where no run of
    that method on that data set is the paper's task: FID of as many images of its size after as many steps
    (paper.differing_settings). Numbers of other tasks do not compare with the printed ones, so they are left out;
    generation_table has them.
    """
    paper = paper_table()
    same = runs if runs.empty else runs[runs["differs"] == ""]
    columns = ["data", "method", "measured", "label", "trainable", "seeds"]
    if same.empty:
        return paper.reindex(columns=[*paper.columns, *columns[2:]])
    measured = method_table(same).rename(columns={"frechet": "measured"}).replace({"method": ROWS})
    return paper.merge(measured[columns], on=["data", "method"], how="left")


def side_by_side(beside: pd.DataFrame) -> pd.DataFrame:
    """The table of beside_paper with a row a data set: printed FIDs by method, then what was measured by setting."""
    parts = {"paper": ("method", "paper_fid"), "measured": ("label", "measured")}
    wide = {
        name: beside.dropna(subset=value).pivot(index="data", columns=by, values=value)
        for name, (by, value) in parts.items()
    }
    orders = {"paper": beside["method"].unique(), "measured": beside["label"].dropna().unique()}
    names = beside["data"].unique()
    return pd.concat({name: part.reindex(names)[list(orders[name])] for name, part in wide.items()}, axis="columns")


def not_beside(runs: pd.DataFrame) -> str:
    """Which runs do not stand beside the paper, and why; empty where all do."""
    if runs.empty:
        return ""
    other = runs[runs["differs"] != ""]
    lines = [
        f"{', '.join(dict.fromkeys(own['data']))}: {reason}" for reason, own in other.groupby("differs", sort=False)
    ]
    if not lines:
        return ""
    return (
        f"{len(other)} of {len(runs)} runs are of another task than the paper's, and their distances do not stand "
        f"beside its FID. {'; '.join(lines)}."
    )


def generation_sentence(runs: pd.DataFrame) -> str:
    """For each data set and distance: the settings by mean with their range over seeds, floors, what is not known."""
    parts = []
    for (data, name, *_), own in [] if runs.empty else runs.groupby(_TASK, sort=False, dropna=False):
        if own["frechet"].isna().all():
            parts.append(f"{data}: no distance was measured.")
            continue
        first = own.iloc[0]
        images, real, half = (int(first[name]) for name in ("images", "real_images", "floor_images"))
        means = method_table(own).sort_values("frechet")
        ranked = "; ".join(
            f"{row.label} ({row.trainable:,} trained) {row.frechet:.3g} [{row.lowest:.3g}, {row.highest:.3g}]"
            for row in means.itertuples()
        )
        floor = f"two halves of the real images ({half:,} each) are {first['floor_frechet']:.3g} apart"
        if "training_frechet" in own and own["training_frechet"].notna().any():
            floor += f", the real training images are {first['training_frechet']:.3g} from the judged ones"
        seeds = own["seed"].nunique()
        spread = f"over {seeds} seeds" if seeds > 1 else "of one seed, so the spread is not known"
        parts.append(
            f"{data}, {name} of {images:,} images from {real:,} real ones, mean and range "
            f"{spread}: {ranked}. As a floor, {floor}. The number holds a bias of sample size: it compares only with "
            f"sets of these sizes."
        )
    return " ".join(parts) or "No run of generation is there yet."
