"""What a training run needs to go on exactly: one file, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import as_path, atomic_write
from ..random_states import random_states, set_random_states
from ..settings import difference
from .config import OptimizationConfig

CHECKPOINT_FILE = "checkpoint.pt"


class Checkpoint:
    """Keeps and restores the trained weights and running statistics of a model, ``parts`` by name (optimiser, schedule,
    averages, ...), the random states, and the progress that the loop hands over.

    Exact: a run that was killed at any moment goes on after its last whole epoch and ends with the same bits, on
    several processes too, each of which has its own random state (those beyond the ones kept take the first one's).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        model: nn.Module,
        parts: Mapping[str, Any],
        order: torch.Generator,
        settings: Mapping[str, Any],
        accelerator: Accelerator,
    ) -> None:
        self.accelerator = accelerator
        self.path = None if folder is None else as_path(folder) / CHECKPOINT_FILE
        self.model, self.parts, self.order, self.settings = model, dict(parts), order, dict(settings)
        self.names = state_names(model)

    def save(self, progress: Mapping[str, Any]) -> None:
        """Replace the file by the state as it is now; called by every process, written by the first.

        Raises FiltersubError on a full disk; the old file stays.
        """
        if self.path is None:
            return
        random = gather_object([random_states()])
        if not self.accelerator.is_main_process:
            return
        state = {
            "settings": self.settings,
            "progress": dict(progress),
            "weights": weights_of(self.model, self.names),
            "parts": {name: _plain(part.state_dict()) for name, part in self.parts.items()},
            "order": self.order.get_state(),
            "random": random,
        }
        with atomic_write(self.path) as aside:
            torch.save(state, aside)

    def resume(self) -> dict[str, Any]:
        """The progress so far, everything else put back in place; empty where there is no checkpoint."""
        if self.path is None or not self.path.exists():
            return {}
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if "settings" not in state:
                raise FiltersubError(f"{self.path} is of an earlier version, in another form; remove it to start anew")
            _check_settings(self.path, state["settings"], self.settings)
            if sorted(state["weights"]) != self.names:
                raise FiltersubError(f"{self.path} is the checkpoint of another model; remove it or use another folder")
            self.model.load_state_dict(state["weights"], strict=False)
            for name, part in self.parts.items():
                part.load_state_dict({**part.state_dict(), **state["parts"][name]})
            self.order.set_state(state["order"])
            own = self.accelerator.process_index
            set_random_states(state["random"][own if own < len(state["random"]) else 0])
        except FiltersubError:
            raise
        except Exception as error:  # damage shows in many ways
            raise FiltersubError(f"{self.path} is damaged ({type(error).__name__}); remove it to start anew") from None
        return state["progress"]


def check_checkpoint(folder: str | os.PathLike[str], config: OptimizationConfig, settings: Mapping[str, Any]) -> None:
    """Raise what ``fit`` would about a checkpoint of another run, before time is spent on a model for it."""
    path = as_path(folder) / CHECKPOINT_FILE
    if not path.exists():
        return
    try:
        theirs = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["settings"]
    except Exception:  # damage shows in many ways; fit says so
        return
    _check_settings(path, theirs, {**settings, **config.identity})


def _check_settings(path: Path, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Weights of another run may fit by their shapes, and training would go on from them unnoticed."""
    of = difference(theirs, mine)
    if of:
        raise FiltersubError(f"{path} is the checkpoint of other settings{of}; remove it or use another folder")


def state_names(model: nn.Module) -> list[str]:
    """Names of what training changes: trained parameters and running statistics."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    running = {name for name in model.state_dict() if name.rpartition(".")[2].startswith(("running_", "num_batches"))}
    return sorted(trained | running)


def weights_of(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """These tensors of the model, as they are (not copied)."""
    weights = model.state_dict()
    return {name: weights[name] for name in names}


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without functions, which no safe file holds: a schedule's."""
    return {key: value for key, value in state.items() if key != "lr_lambdas"}
