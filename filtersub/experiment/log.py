"""A training run as it is watched: a bar on a terminal, lines elsewhere, progress.json, and trackers where asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from ..files import write_json

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
