"""What a generation run writes down, alike for the embedded digits and for Stable Diffusion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FiltersubError
from ..records import OPTIMIZER_NOTE, RECORD_FILE, Record, describe_environment, read_record
from .settings import GenerationSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ..methods import Injected
    from ..metrics import Comparison
    from .denoising import DenoisingResult

KIND = "generation"
GRID_FILE, ADAPTER_FOLDER = "samples.png", "adapter"
GRID_COLUMNS, GRID_IMAGES = 8, 16


def finished(folder: Path, settings: Any) -> Record | None:
    """The record of a folder where it is of these settings. Raises FiltersubError where it is of others."""
    if not (folder / RECORD_FILE).exists():
        return None
    record = read_record(folder)
    known = {field.name for field in fields(settings)}  # a record of an earlier version has not all of them
    if not known >= set(record.parameters) or as_json(type(settings)(**record.parameters)) != as_json(settings):
        raise FiltersubError(f"{folder} holds the record of another run; choose another output folder")
    return record


def as_json(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON knows it."""
    return json.loads(json.dumps(asdict(settings)))


def write_run(
    folder: Path,
    *,
    settings: GenerationSettings,
    data: str,
    injected: Injected,
    result: DenoisingResult | None,
    comparison: Comparison | None,
    first: Tensor,
    saved_bytes: int,
    metrics: Mapping[str, float],
    cost: Mapping[str, float],
) -> Record:
    """Grid of the first images, history.csv and record.json, the last of which stands for all of it.

    Parameters
    ----------
    result : None where nothing was trained; comparison : None where no distance was asked for
    first : uint8 images (n, c, h, w); those of place n start from the same noise in every run
    metrics, cost : beside those of the comparison and the training
    """
    from .sampling import grid, save_png  # here: who reads a record needs no torch

    save_png(grid(first[:GRID_IMAGES], GRID_COLUMNS), folder / GRID_FILE)
    measured, stated = dict(metrics), {"data": data}
    if comparison is not None:
        words = ("features", "digest", "distance_name", "kernel_name")
        numbers = {key: value for key, value in comparison.as_dict().items() if key not in words}
        sizes = {key: numbers.pop(key) for key in ("floor_images", "real_images", "images")}
        measured |= numbers
        stated |= {key: comparison.as_dict()[key] for key in words} | sizes
    costs, notes = {**injected.cost, "saved_bytes": saved_bytes, **cost}, dict(injected.skipped)
    history = pd.DataFrame(columns=["step", "loss", "learning_rate"])
    if result is not None:
        history = pd.DataFrame(result.history)
        measured["train_loss"] = float(history["loss"].tail(50).mean())
        costs |= {"seconds_per_step": result.seconds_per_step, "peak_memory_bytes": result.peak_memory_bytes}
        costs["added_memory_bytes"] = result.added_memory_bytes
        stated |= {"trained_on": result.device, "mixed_precision": result.mixed_precision}
        stated |= {"processes": result.processes, "resumed_from_step": result.resumed_from_step}
        notes |= dict.fromkeys(result.untouched, "no gradient ever reached it")
        notes |= {OPTIMIZER_NOTE: result.optimizer_note} if result.optimizer_note else {}
        if result.ema_decay_reached is not None:
            stated["ema_decay_reached"] = result.ema_decay_reached
    record = Record(
        kind=KIND,
        label=settings.label,
        parameters=as_json(settings),
        seed=settings.seed,
        metrics=measured,
        counts={"trainable": injected.trainable, "head": 0, "total": injected.total},
        cost={key: value for key, value in costs.items() if value == value},
        environment={**describe_environment(), **stated},
        notes=notes,
    )
    return record.write(folder, history=history)
