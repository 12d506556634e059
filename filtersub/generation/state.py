"""What a denoising run goes on from: trained weights, their average, the optimiser, float16's scaler, the history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ..errors import FiltersubError
from ..files import atomic_write
from .denoising_config import DenoisingConfig, DenoisingSet

CHECKPOINT_FILE = "checkpoint.pt"


class TrainingState:
    """The part of a run that changes from step to step; kept in a checkpoint and put back from it."""

    def __init__(
        self,
        unet: nn.Module,
        optimizer: Any,
        accelerator: Accelerator,
        config: DenoisingConfig,
        data: DenoisingSet,
        folder: str | os.PathLike[str] | None,
    ) -> None:
        self.trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        self.optimizer, self.scaler, self.config = optimizer, accelerator.scaler, config
        self.path = None if folder is None else Path(folder) / CHECKPOINT_FILE
        # the length of a run and what it shows do not change its steps: a longer one may go on from a shorter one
        free = ("checkpoint_every", "preview_every", *(("steps",) if config.schedule == "constant" else ()))
        settings = {key: value for key, value in asdict(config).items() if key not in free}
        self.identity = {**settings, "data": [*data.means.shape], "sum": float(data.means.double().sum())}
        self.kept_step = 0
        self.ema = None
        if config.ema_decay is not None:
            from diffusers.training_utils import EMAModel

            self.ema = EMAModel(list(self.trained.values()), decay=config.ema_decay, use_ema_warmup=False)

    def average(self) -> None:
        if self.ema is not None:
            self.ema.step(list(self.trained.values()))

    @property
    def decay_reached(self) -> float | None:
        """The decay of the last step, below what was asked for in short runs; None without an average."""
        return None if self.ema is None else self.ema.get_decay(self.ema.optimization_step)

    def finish(self) -> None:
        if self.ema is not None:
            self.ema.copy_to(list(self.trained.values()))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network holds the average within, its own weights again after; where none is kept, nothing changes."""
        if self.ema is None:
            yield
            return
        trained = list(self.trained.values())
        self.ema.store(trained)
        self.ema.copy_to(trained)
        try:
            yield
        finally:
            self.ema.restore(trained)

    def keep(self, history: list[dict[str, float]]) -> None:
        if self.path is None:
            return
        state: dict[str, Any] = {
            "identity": self.identity,
            "history": history,
            "weights": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        with atomic_write(self.path) as aside:
            torch.save(state, aside)
        self.kept_step = len(history)

    @torch.no_grad()
    def resume(self) -> list[dict[str, float]]:
        """The history so far, everything else put back in place; empty where there is no checkpoint."""
        if self.path is None or not self.path.exists():
            return []
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["identity"] != self.identity or list(state["weights"]) != list(self.trained):
                raise FiltersubError(f"{self.path} is of other settings or data; remove it or use another folder")
            for name, parameter in self.trained.items():
                parameter.copy_(state["weights"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            if self.scaler is not None:
                self.scaler.load_state_dict(state["scaler"])
        except FiltersubError:
            raise
        except Exception as error:  # damage shows in many ways
            raise FiltersubError(f"{self.path} is damaged ({type(error).__name__}); remove it to start anew") from None
        self.kept_step = len(state["history"])
        return state["history"][: self.config.steps]
