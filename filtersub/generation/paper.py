"""Table 3 of the paper as printed, and whether a run is of its task."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import pandas as pd

from ..metrics.features import INCEPTION
from ..paper import READINGS, count_run, find_part
from ..records import Record
from .methods import PAPER_RATES, MethodSettings

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
#: its section 5.4; of a data set with more images than that, as many are compared
PAPER_IMAGES, PAPER_STEPS, PAPER_SIZE = 20_000, 5000, 256
PAPER_UNET = 859_520_964  # parameters of Stable Diffusion's UNet, which the paper calls 860 M
#: method -> run of the part "table3", where they are called differently
RUNS = {"filter-subspace": "atoms", "lora-loralib": "lora"}
#: method -> row of the table, where it is called differently
ROWS = {"lora-loralib": "lora"}


def paper_table() -> pd.DataFrame:
    """One row a data set and method: data, method, paper_fid; as printed."""
    rows = [
        (data, method, fid) for method, line in PAPER_FID.items() for data, fid in zip(PAPER_DATA, line, strict=True)
    ]
    return pd.DataFrame(rows, columns=["data", "method", "paper_fid"])


def paper_sentence() -> str:
    """The means that the paper prints."""
    names = {"none": "not tuned", "full": "full tuning", "lora": "LoRA", "filter-subspace": "atoms"}
    parts = [
        f"{names[method]} {mean:g}" + (f" ({PAPER_MILLIONS[method]:g} M trained)" if PAPER_MILLIONS[method] else "")
        for method, mean in sorted(PAPER_MEAN.items(), key=lambda item: item[1])
    ]
    return f"mean FID over {len(PAPER_DATA)} data sets, {', '.join(parts)}."


def differing_settings(record: Record) -> list[str]:
    """In what a run of generation is another task than the paper's Table 3, in words; empty where it is the same.

    It is held against the nearest of the readings. What the paper does not state (batch, guidance, sampler, seed) is no
    difference.
    """
    asked, found = record.parameters, record.environment
    if found.get("data") not in PAPER_DATA:
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
    wrong += min((_differing_method(record, reading) for reading in READINGS), key=len)
    return wrong


def _differing_method(record: Record, reading: str) -> list[str]:
    return _differing_training(record.parameters, reading) or _differing_count(record, reading)


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
    known = {field.name: asked[field.name] for field in fields(MethodSettings) if field.name in asked}
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
    return count_run(find_part("table3"), run, reading).trainable
