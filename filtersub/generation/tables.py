"""Records of generation as tables, beside the paper's Table 3, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..records import Record
from .record import GRID_FILE, KIND

#: Table 3 of Chen, Miao and Qiu (arXiv:2403.00269): FID of 20,000 samples of Stable Diffusion
PAPER_DATA = (
    "caltech101", "cifar100", "dtd", "flowers", "pets", "svhn", "sun397", "camelyon", "eurosat", "resisc45",
    "retinopathy", "clevr", "dmlab", "kitti", "dsprites", "snorb",
)  # fmt: skip
_PRINTED = """
52.0 113.3 74.5 45.5 117.1 212.2 28.8 258.8 186.2 144.2 307.7 271.3 225.0 288.5 373.9 266.7
39.0 33.8 46 42.9 32.6 93.2 17.0 107.6 144.5 54.3 69.0 25.8 30.3 92.9 75.8 75.6
36.8 42.4 40.6 45.3 30.8 120.9 17.7 101.2 81.9 61.6 69.5 33.6 32.1 64.4 69.4 71.6
38.6 32.4 43.9 38.5 30.6 96.8 17.2 109.7 64.1 62.4 60.6 18.7 41.9 69.5 73.2 76.5
"""
PAPER_FID = {
    method: tuple(float(value) for value in line.split())
    for method, line in zip(("none", "full", "lora", "filter-subspace"), _PRINTED.split("\n")[1:-1], strict=True)
}
PAPER_MEAN = {"none": 179.1, "full": 61.3, "lora": 57.5, "filter-subspace": 54.7}
PAPER_MILLIONS = {"none": None, "full": 860.0, "lora": 22.67, "filter-subspace": 1.11}


def paper_table() -> pd.DataFrame:
    """One row a data set and method: data, method, paper_fid; as printed."""
    rows = [
        (data, method, fid) for method, line in PAPER_FID.items() for data, fid in zip(PAPER_DATA, line, strict=True)
    ]
    return pd.DataFrame(rows, columns=["data", "method", "paper_fid"])


def generation_table(records: Mapping[Path, Record]) -> pd.DataFrame:
    """One row a run: data, label, method, seed, distances with their floors, counts, costs, the file of its samples."""
    rows = []
    for folder, record in records.items():
        if record.kind != KIND:
            continue
        stated = ("data", "distance_name", "kernel_name", "images", "real_images", "floor_images")
        head = {
            "folder": str(folder),
            "label": record.label,
            "method": record.parameters["method"],
            "seed": record.seed,
        }
        known = {name: record.environment.get(name) for name in stated}
        rate = {"learning_rate": record.parameters["learning_rate"]}
        samples = {"samples": str(Path(folder) / GRID_FILE)}
        rows.append({**head, **known, **rate, **record.metrics, **record.counts, **record.cost, **samples})
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["data", "trainable", "label", "seed"], ignore_index=True)


def method_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a data set and setting of generation_table: means over seeds, lowest and highest Fréchet distance."""
    names = ["frechet", "kernel", "train_loss", "seconds_per_step", "peak_memory_bytes", "saved_bytes", "wall_seconds"]
    grouped = runs.groupby(["data", "label", "method"], sort=False)
    table = grouped[[name for name in names if name in runs]].mean()
    table["lowest"], table["highest"] = grouped["frechet"].min(), grouped["frechet"].max()
    table["trainable"], table["total"] = grouped["trainable"].first(), grouped["total"].first()
    table["seeds"] = grouped["seed"].agg(lambda seeds: sorted(set(seeds)))
    return table.reset_index()


def beside_paper(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 3 with what was measured: data, method, paper_fid, measured (nan where nothing was), distance.

    A run belongs to a data set of the table by the name of its folder; what the paper has not stands at the end.
    """
    paper = paper_table()
    if runs.empty:
        return paper.assign(measured=float("nan"), distance="")
    means = method_table(runs).merge(runs.drop_duplicates("data")[["data", "distance_name"]], on="data")
    best = means.sort_values("frechet").drop_duplicates(["data", "method"])
    kept = best.rename(columns={"frechet": "measured", "distance_name": "distance"})
    joined = paper.merge(kept[["data", "method", "measured", "distance", "label"]], on=["data", "method"], how="outer")
    places = {name: place for place, name in enumerate(PAPER_DATA)}
    order = joined["data"].map(lambda name: places.get(name, len(places)))
    methods = joined["method"].map({name: place for place, name in enumerate(PAPER_FID)})
    return (
        joined.assign(o=order, m=methods)
        .sort_values(["o", "data", "m"])
        .drop(columns=["o", "m"])
        .reset_index(drop=True)
    )


def generation_sentence(runs: pd.DataFrame) -> str:
    """For each data set: the settings by mean distance with their range over seeds, the floors, what is not known."""
    parts = []
    for data, own in runs.groupby("data", sort=False):
        if "frechet" not in own or own["frechet"].isna().all():
            parts.append(f"{data}: no distance was measured.")
            continue
        name, first = own["distance_name"].iloc[0], own.iloc[0]
        means = method_table(own).sort_values("frechet")
        ranked = "; ".join(
            f"{row.label} ({row.trainable:,} trained) {row.frechet:.3g} [{row.lowest:.3g}, {row.highest:.3g}]"
            for row in means.itertuples()
        )
        floor = f"two halves of the real images ({first['floor_images']:,} each) are {first['floor_frechet']:.3g} apart"
        if "training_frechet" in own and own["training_frechet"].notna().any():
            floor += f", the real training images are {first['training_frechet']:.3g} from the judged ones"
        seeds = own["seed"].nunique()
        spread = f"over {seeds} seeds" if seeds > 1 else "of one seed, so the spread is not known"
        parts.append(
            f"{data}, {name} of {first['images']:,} images from {first['real_images']:,} real ones, mean and range "
            f"{spread}: {ranked}. As a floor, {floor}. The number holds a bias of sample size: it compares only with "
            f"sets of these sizes."
        )
    return " ".join(parts) or "No run of generation is there yet."


def paper_sentence() -> str:
    """The means that the paper prints."""
    names = {"none": "not tuned", "full": "full tuning", "lora": "LoRA", "filter-subspace": "atoms"}
    parts = [
        f"{names[method]} {mean:g}" + (f" ({PAPER_MILLIONS[method]:g} M trained)" if PAPER_MILLIONS[method] else "")
        for method, mean in sorted(PAPER_MEAN.items(), key=lambda item: item[1])
    ]
    return f"mean FID over {len(PAPER_DATA)} data sets, {', '.join(parts)}."
