"""Records of generation as tables, in words, and beside the paper's Table 3 where they are of its task."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import FiltersubError
from ..metrics.names import INCEPTION
from ..paper import READINGS, find_part, printed_fid, printed_means, printed_millions
from ..records import Record
from ..setting_fields import MethodFields
from .record import GRID_FILE, KIND
from .settings import PAPER_RATES, MethodSettings

_TASK = ["data", "distance_name", "images", "real_images"]  # only distances of one task compare
_ALWAYS = ["folder", "label", "method", "seed", *_TASK, "frechet", "trainable", "samples", "differs"]
#: section 5.4 of the paper; of a data set with more images than that, as many are compared
PAPER_IMAGES, PAPER_STEPS, PAPER_SIZE = 20_000, 5000, 256
PAPER_UNET = 859_520_964  # parameters of Stable Diffusion's UNet, which the paper calls 860 M
#: method -> run of the part "table3", where they are called differently
RUNS = {"filter-subspace": "atoms", "lora-loralib": "lora"}
#: method -> row of the table, where it is called differently
ROWS = {"lora-loralib": "lora"}


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


def runs_of_seed(runs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows of generation_table with this seed; none where there is no run at all.

    Raises FiltersubError that names the seeds there are where it has none.
    """
    if len(runs) and seed not in set(runs["seed"]):
        there = ", ".join(map(str, sorted(set(runs["seed"]))))
        raise FiltersubError(f"no run of generation has seed {seed!r}; these have {there}")
    return runs[runs["seed"] == seed]


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
    paper = printed_fid()
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


def paper_data() -> tuple[str, ...]:
    """The data sets of Table 3, in its order."""
    return tuple(printed_fid()["data"].unique())


def paper_sentence() -> str:
    """The means that the paper prints."""
    names = {"none": "not tuned", "full": "full tuning", "lora": "LoRA", "filter-subspace": "atoms"}
    parts = []
    for method, mean in sorted(printed_means("table3").items(), key=lambda item: item[1]):
        millions = printed_millions("table3", method)
        parts.append(f"{names[method]} {mean:g}" + (f" ({millions} M trained)" if millions else ""))
    return f"mean FID over {len(paper_data())} data sets, {', '.join(parts)}."


def differing_settings(record: Record) -> list[str]:
    """In what a run of generation is another task than the paper's Table 3, in words; empty where it is the same.

    It is held against the nearest of the readings. What the paper does not state (batch, guidance, sampler, seed) is no
    difference.
    """
    asked, found = record.parameters, record.environment
    if found.get("data") not in paper_data():
        return ["no data set of Table 3"]
    wrong = []
    if found.get("features") != INCEPTION:
        name = found.get("distance_name")
        wrong.append("no distance was measured" if name is None else f"{name}, which is not FID")
    elif found.get("images") != PAPER_IMAGES or asked.get("reference_images", 0) < PAPER_IMAGES:
        wrong.append(f"{found.get('images'):,} images beside {found.get('real_images'):,}, not {PAPER_IMAGES:,}")
    if record.counts["total"] != PAPER_UNET:
        wrong.append(f"a network of {record.counts['total']:,} parameters")
    if asked.get("image_size") != PAPER_SIZE:
        wrong.append(f"images of {asked.get('image_size')} pixels a side, not {PAPER_SIZE}")
    methods = (_differing_training(record.parameters, r) or _differing_count(record, r) for r in READINGS)
    return wrong + min(methods, key=len)


def _differing_training(asked: dict[str, Any], reading: str) -> list[str]:
    method = asked["method"]
    if method == "none":
        return []
    wrong = []
    if asked["steps"] != PAPER_STEPS:
        wrong.append(f"{asked['steps']:,} steps, not {PAPER_STEPS:,}")
    if asked["learning_rate"] != PAPER_RATES[method]:
        wrong.append(f"a rate of {asked['learning_rate']:g}, not {PAPER_RATES[method]:g}")
    if asked.get("optimizer", "adamw") != "adamw":
        wrong.append(f"the optimiser {asked['optimizer']}, not adamw")
    known = {name: asked[name] for name in MethodFields.__dataclass_fields__ if name in asked}
    rules = find_part("table3").rule(RUNS.get(method, method), reading)
    limited = {"limit_atoms": rules["limit_atoms"].value} if "limit_atoms" in rules else {}
    own, theirs = MethodSettings(**known), MethodSettings(method=method, **limited)
    if own.label != theirs.label:
        wrong.append(f"{own.label}, not {theirs.label}")
    elif method != "full" and own.pattern not in (theirs.pattern, rules["layers"].value if "layers" in rules else None):
        wrong.append(f"{own.label} on other layers")
    return wrong


def _differing_count(record: Record, reading: str) -> list[str]:
    """Trained parameters other than those of the reading of Table 3."""
    method, trained = record.parameters["method"], record.counts["trainable"]
    wanted = _wanted(RUNS.get(method, method), reading)
    return [] if trained == wanted else [f"{trained:,} trained parameters, not {wanted:,}"]


@cache
def _wanted(run: str, reading: str) -> int:
    from ..paper import count_run  # by torch, which few reports need

    return count_run(find_part("table3"), run, reading).trainable
