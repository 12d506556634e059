"""Trackers of a generative run: loss and learning rate of each step, and the distances of the finished run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..experiment.log import open_trackers
from ..training.accelerator import processes
from .record import as_json
from .settings import GenerationSettings


class StepLog:
    """Context manager of started trackers, which are finished when it ends.

    names : as experiment.log.chosen_trackers gives them; only the first process of a run logs
    folder : of the run; trackers write there what they keep beside their server
    """

    def __init__(self, names: Iterable[str], folder: Path, settings: GenerationSettings, trainable: int) -> None:
        logged = {**as_json(settings), "trained_parameters": trainable}
        first = processes().is_main_process
        self.trackers = open_trackers(names, folder, settings.label, logged) if first else []

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self.trackers:
            tracker.finish()

    def on_step(self, row: Mapping[str, Any]) -> None:
        """A row of the history of denoising.fit_denoiser."""
        values = {"loss/train": row["loss"], "learning_rate": row["learning_rate"]}
        for tracker in self.trackers:
            tracker.log(values, step=int(row["step"]))

    def on_end(self, metrics: Mapping[str, float], step: int) -> None:
        """The metrics of the run's record, after its last step."""
        for tracker in self.trackers:
            tracker.log(dict(metrics), step=step)
