"""A training run as it is watched: a bar on a terminal, lines elsewhere, progress.json, and trackers: TensorBoard,
Weights & Biases, MLflow and the others of accelerate."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from ..errors import FiltersubError, near
from ..files import write_json
from ..processes import LOG_WITH

PROGRESS_FILE = "progress.json"


class TrainingLog:
    """Context manager; ``on_step`` and ``on_epoch`` are what ``fit`` calls.

    trackers : of accelerate, started; they get losses, accuracies, the learning rate and seconds of each epoch, and are
        finished with the run
    """

    def __init__(
        self, folder: Path, label: str, epochs: int, judged_on: str, *, quiet: bool, trackers: Sequence[Any] = ()
    ) -> None:
        self.folder, self.label, self.epochs, self.judged_on = folder, label, epochs, judged_on
        self.on_terminal = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self.trackers = trackers

    def __enter__(self) -> TrainingLog:
        self.bar = tqdm(desc=self.label, unit="step", disable=not self.on_terminal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        for tracker in self.trackers:
            tracker.finish()

    def on_step(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def on_epoch(self, row: dict[str, float]) -> None:
        write_json(self.folder / PROGRESS_FILE, {"epoch": row["epoch"], "epochs": self.epochs})
        for tracker in self.trackers:
            tracker.log({_tag(name): value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))
        part = self.judged_on if f"{self.judged_on}_accuracy" in row else "training"  # not evaluated after this epoch
        accuracy = row.get(f"{part}_accuracy", row["train_accuracy"])
        if self.on_terminal:
            self.bar.set_postfix({f"{part} accuracy": f"{accuracy:.1%}"})
        elif not self.quiet:
            print(
                f"epoch {row['epoch']}/{self.epochs}  loss {row['train_loss']:.3f}  "
                f"{part} accuracy {accuracy:.1%}  {row['seconds']:.1f} s",
                flush=True,
            )


def _tag(name: str) -> str:
    """``test_mean_class_accuracy`` -> ``mean_class_accuracy/test``: one chart for training and judging."""
    part, _, measure = name.partition("_")
    return f"{measure}/{part}" if part in ("train", "test", "validation") else name


PROJECT = "filtersub"
TENSORBOARD = "tensorboard"
_INSTALLED_BY = {"mlflow": "mlflow", "comet_ml": "comet-ml", "wandb": "wandb", "tensorboard": "tensorboard"}


def chosen_trackers(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names of trackers, each once: those given (``"wandb,mlflow"`` is two), else those of FILTERSUB_LOG_WITH.

    Raises FiltersubError for a name that accelerate does not know, and for a tracker that is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    given = os.environ.get(LOG_WITH, "") if names is None else names
    parts = given.split(",") if isinstance(given, str) else given
    chosen = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in chosen:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise FiltersubError(f"no tracker {name!r}{near(name, sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in map(str, get_available_trackers()):
            package = _INSTALLED_BY.get(name, name)
            raise FiltersubError(f"logging with {name} needs that package: pip install {package}")
    return chosen


def open_trackers(names: Iterable[str], folder: Path, label: str, settings: Mapping[str, Any]) -> list[Any]:
    """Started trackers of accelerate, with the settings stored; what they write beside their server is in ``folder``.

    Where they send it, their own environment variables say (WANDB_MODE, MLFLOW_TRACKING_URI, ...).
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    opened = []
    for name in names:
        kind = LOGGER_TYPE_TO_CLASS[name]
        if name == "mlflow":
            tracker = kind(experiment_name=PROJECT, run_name=label)
        elif name == "wandb":
            tracker = kind(os.environ.get("WANDB_PROJECT", PROJECT), name=label, dir=str(folder))
        elif name == TENSORBOARD:
            tracker = kind(TENSORBOARD, logging_dir=str(folder))
        else:
            tracker = kind(PROJECT, **({"logging_dir": str(folder)} if kind.requires_logging_directory else {}))
        tracker.start()
        if name != TENSORBOARD:  # which would make a folder of its own for them, named by the clock
            tracker.store_init_configuration(dict(settings))
        opened.append(tracker)
    return opened
