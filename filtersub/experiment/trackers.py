"""Trackers that a training run logs to: TensorBoard, Weights & Biases, MLflow and the others of accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import FiltersubError, near
from ..processes import LOG_WITH

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
