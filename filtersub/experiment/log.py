"""A training run as it is watched: a bar on a terminal, lines elsewhere, progress.json, and trackers: TensorBoard,
Weights & Biases, MLflow and the others of accelerate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..errors import FiltersubError, check_name
from ..files import write_json
from ..percentages import percentage
from ..processes import LOG_WITH

PROGRESS_FILE = "progress.json"
Log = Callable[[Mapping[str, Any], float], None]  # of values, at a step or epoch


class TrainingLog:
    """Context manager; ``on_step`` and ``on_epoch`` are what ``fit`` calls.

    track : as ``tracking`` gives it; gets losses, accuracies, the learning rate and seconds of each epoch
    """

    def __init__(self, folder: Path, label: str, epochs: int, judged_on: str, *, quiet: bool, track: Log) -> None:
        self.folder, self.epochs, self.judged_on, self.quiet, self.track = folder, epochs, judged_on, quiet, track
        self.on_terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(desc=label, unit="step", disable=not self.on_terminal)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def on_step(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def on_epoch(self, row: dict[str, float]) -> None:
        write_json(self.folder / PROGRESS_FILE, {"epoch": row["epoch"], "epochs": self.epochs})
        self.track({_tag(name): value for name, value in row.items() if name != "epoch"}, row["epoch"])
        part = self.judged_on if f"{self.judged_on}_accuracy" in row else "training"  # not evaluated after this epoch
        accuracy = row.get(f"{part}_accuracy", row["train_accuracy"])
        if self.on_terminal:
            self.bar.set_postfix({f"{part} accuracy": percentage(accuracy)})
        elif not self.quiet:
            print(
                f"epoch {row['epoch']}/{self.epochs}  loss {row['train_loss']:.3f}  "
                f"{part} accuracy {percentage(accuracy)}  {row['seconds']:.1f} s",
                flush=True,
            )


def _tag(name: str) -> str:
    """``test_mean_class_accuracy`` -> ``mean_class_accuracy/test``: one chart for training and judging."""
    part, _, measure = name.partition("_")
    return f"{measure}/{part}" if part in ("train", "test", "validation") else name


PROJECT = "filtersub"
TENSORBOARD = "tensorboard"


def chosen_trackers(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names of trackers, each once: those given (``"wandb,mlflow"`` is two), else those of FILTERSUB_LOG_WITH.

    Raises FiltersubError for a name that accelerate does not know, and for a tracker that is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    given = os.environ.get(LOG_WITH, "") if names is None else names
    parts = given.split(",") if isinstance(given, str) else given
    chosen = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in chosen:
        check_name("tracker", name, sorted(LOGGER_TYPE_TO_CLASS))
        if name not in map(str, get_available_trackers()):
            raise FiltersubError(f"logging with {name} needs that package: pip install {name.replace('_', '-')}")
    return chosen


@contextmanager
def tracking(names: Iterable[str], folder: Path, label: str, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Trackers of accelerate with the settings stored, started and finished with the run; yields what logs values at a
    step to all of them. Only the first process of a run logs.

    What they write beside their server is in ``folder``; where they send it, their own environment variables say
    (WANDB_MODE, MLFLOW_TRACKING_URI, ...).
    """
    from ..training.accelerator import processes

    opened = [_opened(name, folder, label, dict(settings)) for name in names] if processes().is_main_process else []

    def log(values: Mapping[str, Any], step: float) -> None:
        for tracker in opened:
            tracker.log(dict(values), step=int(step))

    try:
        yield log
    finally:
        for tracker in opened:
            tracker.finish()


def _opened(name: str, folder: Path, label: str, settings: dict[str, Any]) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "mlflow":
        tracker = kind(experiment_name=PROJECT, run_name=label)
    elif name == "wandb":
        tracker = kind(os.environ.get("WANDB_PROJECT", PROJECT), name=label, dir=str(folder))
    else:
        project = TENSORBOARD if name == TENSORBOARD else PROJECT
        tracker = kind(project, **({"logging_dir": str(folder)} if kind.requires_logging_directory else {}))
    tracker.start()
    if name != TENSORBOARD:  # which would make a folder of its own for them, named by the clock
        tracker.store_init_configuration(settings)
    return tracker
