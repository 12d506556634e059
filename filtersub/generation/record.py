"""What a generation run writes down, alike for the embedded digits and for Stable Diffusion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FiltersubError
from ..experiment.log import Log, tracking
from ..records import OPTIMIZER_NOTE, RECORD_FILE, Record, describe_environment, read_record
from ..settings import difference
from .settings import GenerationSettings

if TYPE_CHECKING:
    from torch import nn

    from ..methods import Injected
    from ..metrics import Comparison, ImageSet
    from .denoising import DenoisingResult

KIND = "generation"
GRID_FILE, ADAPTER_FOLDER = "samples.png", "adapter"
GRID_COLUMNS, GRID_IMAGES = 8, 16
_STATED = ("features", "digest", "distance_name", "kernel_name", "floor_images", "real_images", "images")


def finished(folder: Path, settings: GenerationSettings) -> Record | None:
    """The record of a folder where it is of these settings. Raises FiltersubError where it is of others."""
    if not (folder / RECORD_FILE).exists():
        return None
    record = read_record(folder)
    known = settings.flat.keys()  # a record of an earlier version has not all of them
    theirs = type(settings)(**record.parameters) if known >= set(record.parameters) else None
    if theirs != settings:
        of = difference(record.parameters if theirs is None else theirs.flat, settings.flat)
        raise FiltersubError(f"{folder} holds the record of another run{of}; choose another output folder")
    return record


def tracked(
    names: Iterable[str], folder: Path, settings: GenerationSettings, trainable: int
) -> AbstractContextManager[Log]:
    """Trackers of a run, as experiment.log.tracking gives them; ``names`` as experiment.log.chosen_trackers does."""
    return tracking(names, folder, settings.label, {**settings.parameters, "trained_parameters": trainable})


def log_step(log: Log, row: Mapping[str, Any]) -> None:
    """Logs a row of the history of denoising.fit_denoiser."""
    log({"loss/train": row["loss"], "learning_rate": row["learning_rate"]}, row["step"])


def write_run(
    folder: Path,
    settings: GenerationSettings,
    data: str,
    unet: nn.Module,
    injected: Injected,
    result: DenoisingResult | None,
    began: float,
    *,
    draw: Callable[[], ImageSet],
    compare: Callable[[ImageSet], Comparison] | None,
    metrics: Mapping[str, float],
) -> Record:
    """Save what was tuned, draw with it, compare, and write the grid of the first images, history.csv and record.json,
    the last of which stands for all of it.

    Parameters
    ----------
    result : None where nothing was trained; began : when the run did, by time.perf_counter
    draw : the images; those of place n start from the same noise in every run
    compare : their distance from real ones; None where none is asked for
    metrics : beside those of the comparison and the training
    """
    from .sampling import grid, save_png  # here: who reads a record needs no torch
    from .tuned import save_tuned

    saved_bytes = save_tuned(unet, settings.method, folder / ADAPTER_FOLDER)
    unet.eval()
    sampled = time.perf_counter()
    drawn = draw()
    sampling_seconds = time.perf_counter() - sampled
    save_png(grid(next(drawn.batches(GRID_IMAGES)), GRID_COLUMNS), folder / GRID_FILE)
    measured, stated = dict(metrics), {"data": data}
    if compare is not None:
        found = compare(drawn).as_dict()
        stated |= {key: found.pop(key) for key in _STATED}
        measured |= found
    cost = {"sampling_seconds": sampling_seconds, "wall_seconds": time.perf_counter() - began}
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
        parameters=settings.parameters,
        seed=settings.seed,
        metrics=measured,
        counts={"trainable": injected.trainable, "head": 0, "total": injected.total},
        cost={key: value for key, value in costs.items() if value == value},
        environment={**describe_environment(), **stated},
        notes=notes,
    )
    return record.write(folder, history=history)
