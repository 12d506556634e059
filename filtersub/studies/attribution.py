"""Is the active region of the first block larger for tuned atoms than for LoRA, as the paper's Figure 5 shows?"""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..attribution import active_share, first_block, grad_cam
from ..data import first_images
from ..errors import FiltersubError
from ..experiment import TuneSettings, tune
from ..experiment.tuned import load_tuned
from ..files import make_folder
from ..folder_lock import locks
from ..intervals import interval
from ..models import input_statistics
from ..photographs import photograph_batches
from ..records import Record, describe_environment
from ..settings import MOST_SEED, check_between, check_each, check_kind, check_whole

_SHOWN_SIDE = 48  # pixels of the maps that are kept to be shown


@locks("out")
def attribution_study(
    out: str | os.PathLike[str],
    runs: Sequence[TuneSettings],
    *,
    seeds: Sequence[int] = (0, 1),
    layer: str | None = None,
    n_images: int = 200,
    n_photographs: int = 60,
    thresholds: Sequence[float] = (0.25, 0.5, 0.75),
    shown: int = 4,
    on_run: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Tune a model by each of the settings at each seed, compare where they look, and write the record into ``out``.

    Parameters
    ----------
    runs : settings of one model and one data set; tuned in ``out/tuned/``, finished runs are read back
    layer : whose maps are looked at; default the first block
    n_images : the first so many images that the runs are judged on, by the score of their own class
    n_photographs : random crops of the photographs that come along, by the score of the predicted class; 0 for none
    thresholds : shares of a map's largest value above which a pixel is active; the middle one is reported
    shown : the first so many images whose maps are kept, of the first seed

    Beside record.json: shares.csv (label, seed, images, image, threshold, share), summary.csv (share_table of it),
    differences.csv (difference_table), accuracy.csv and maps.csv (label, image, y, x, value, grey).
    """
    _check(runs, seeds, thresholds, n_images, n_photographs, shown)
    folder, began = make_folder(out), time.perf_counter()
    shares, maps, accuracy, block = [], [], [], layer
    todo = [(settings, seed) for settings in runs for seed in seeds]
    for number, (settings, seed) in enumerate(todo, start=1):
        if on_run is not None:
            on_run(number, len(todo), settings.label)
        name = re.sub(r"[^A-Za-z0-9]+", "-", settings.label).strip("-")
        own = folder / "tuned" / f"{name}-seed{seed}"
        record = tune(replace(settings, seed=seed), own, quiet=True)
        model, split, _ = load_tuned(own)
        block = first_block(model) if layer is None else layer
        images, labels = first_images(split.judged, n_images)
        found = grad_cam(model, images, layer=block, labels=labels)
        named = {"label": settings.label, "seed": seed}
        shares.append(_shares(found, thresholds).assign(**named, images=settings.data))
        if n_photographs:
            mean, std = input_statistics(model)
            crops = photograph_batches(n_photographs, size=settings.image_size, mean=mean, std=std)
            cams = grad_cam(model, torch.cat(list(crops)), layer=block)
            shares.append(_shares(cams, thresholds).assign(**named, images="photographs"))
        if seed == seeds[0] and shown:
            maps.append(_kept(found[:shown], _grey(model, images[:shown])).assign(label=settings.label))
        merits = {key: value for key, value in record.metrics.items() if key.endswith("_accuracy")}
        accuracy.append({**named, **merits, "trainable": record.counts["trainable"]})
    table = pd.concat(shares, ignore_index=True)
    summary, middle = share_table(table), sorted(thresholds)[len(thresholds) // 2]
    reported = summary[(summary["threshold"] == middle) & (summary["images"] == runs[0].data)]
    record = Record(
        kind="attribution",
        label=f"{runs[0].model} on {runs[0].data}, {block}",
        parameters={
            **{"model": runs[0].model, "data": runs[0].data, "layer": block, "seeds": list(seeds)},
            **{"labels": [settings.label for settings in runs], "n_images": int(table["image"].max()) + 1},
            **{"n_photographs": n_photographs, "thresholds": list(thresholds), "threshold": middle},
        },
        seed=seeds[0],
        metrics={f"active_share: {row.label}": float(row.share) for row in reported.itertuples()},
        counts={"runs": len(todo)},
        cost={"wall_seconds": time.perf_counter() - began},
        environment=describe_environment(),
    )
    tables = {"shares": table, "summary": summary, "differences": difference_table(table)}
    if maps:
        tables["maps"] = pd.concat(maps, ignore_index=True)
    return record.write(folder, **tables, accuracy=pd.DataFrame(accuracy))


def share_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Mean active share by images, threshold and label, with its 95 % bootstrap interval over images.

    An image's share is its mean over seeds, so that images, not runs, are resampled. ``lowest_seed`` and
    ``highest_seed`` are the means of single seeds; ``empty`` is the share of maps that are zero everywhere.
    """
    rows = []
    for (images, threshold, label), group in shares.groupby(["images", "threshold", "label"], sort=False):
        by_image, by_seed = group.groupby("image")["share"].mean(), group.groupby("seed")["share"].mean()
        low, high = interval(by_image.to_list(), "bootstrap", bounds=(0.0, 1.0))
        row = {"images": images, "threshold": threshold, "label": label, "share": by_image.mean()}
        row |= {"low": low, "high": high, "lowest_seed": by_seed.min(), "highest_seed": by_seed.max()}
        row |= {"n_images": len(by_image), "seeds": len(by_seed), "empty": float((group["share"] == 0).mean())}
        rows.append(row)
    return pd.DataFrame(rows)


def difference_table(shares: pd.DataFrame) -> pd.DataFrame:
    """How much larger each label's share is than that of the label before it, image by image, at each threshold.

    Columns images, threshold, label, less (the other label), difference, low, high (95 % bootstrap interval over images
    of the mean over seeds), lowest_seed, highest_seed (the same difference at single seeds).
    """
    labels, rows = list(dict.fromkeys(shares["label"])), []
    for (images, threshold), group in shares.groupby(["images", "threshold"], sort=False):
        wide = group.pivot_table(index=["image", "seed"], columns="label", values="share")
        for before, label in pairwise(labels):
            gaps = wide[label] - wide[before]
            by_image, by_seed = gaps.groupby("image").mean(), gaps.groupby("seed").mean()
            low, high = interval(by_image.to_list(), "bootstrap")
            row = {"images": images, "threshold": threshold, "label": label, "less": before}
            row |= {"difference": by_image.mean(), "low": low, "high": high}
            rows.append({**row, "lowest_seed": by_seed.min(), "highest_seed": by_seed.max()})
    columns = ["images", "threshold", "label", "less", "difference", "low", "high", "lowest_seed", "highest_seed"]
    return pd.DataFrame(rows, columns=columns)


def _check(
    runs: Sequence[TuneSettings],
    seeds: Sequence[int],
    thresholds: Sequence[float],
    n_images: int,
    n_photographs: int,
    shown: int,
) -> None:
    if not runs:
        raise FiltersubError("runs is empty; it must name at least one")
    for settings in runs:
        check_kind("each of runs", settings, TuneSettings)
    labels = [settings.label for settings in runs]
    if len(set(labels)) < len(labels):
        raise FiltersubError(f"two runs are both called {max(labels, key=labels.count)!r}; their settings must differ")
    if len({(settings.model, settings.data, settings.image_size) for settings in runs}) > 1:
        raise FiltersubError("runs must be of one model, one data set and one image size, or maps do not compare")
    check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    check_each("thresholds", thresholds, check_between, 0, 1)
    check_whole("n_images", n_images, 2)
    for name, value in (("n_photographs", n_photographs), ("shown", shown)):
        check_whole(name, value, 0)


def _shares(maps: Tensor, thresholds: Sequence[float]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"image": range(len(maps)), "threshold": value, "share": active_share(maps, value).tolist()})
        for value in thresholds
    ]
    return pd.concat(parts, ignore_index=True)


def _grey(model: nn.Module, images: Tensor) -> Tensor:
    """(n, height, width) in 0..1: the images before they were normalised."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in input_statistics(model))
    return (images * std + mean).mean(1).clamp(0, 1)


def _kept(maps: Tensor, grey: Tensor) -> pd.DataFrame:
    """A row a pixel, at no more than 48 pixels a side."""
    side = min(_SHOWN_SIDE, maps.shape[1])
    small = [interpolate(values[:, None], size=(side, side), mode="area")[:, 0] for values in (maps, grey)]
    image, y, x = torch.meshgrid(*(torch.arange(n) for n in small[0].shape), indexing="ij")
    columns = {"image": image, "y": y, "x": x, "value": small[0], "grey": small[1]}
    return pd.DataFrame({name: values.reshape(-1).tolist() for name, values in columns.items()}).round(3)
