"""How a run takes its steps: the optimiser, which parameters it moves how, and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import FiltersubError
from .config import OptimizationConfig
from .soap import BETAS, LARGEST_SIDE, SOAP

_CLASSES = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "soap": SOAP}


class Chosen:
    """``optimizer`` and its ``groups``, the first of which is the one whose rate the history shows."""

    def __init__(self, model: nn.Module, config: OptimizationConfig, head: str | None) -> None:
        self.groups = parameter_groups(model, config, head)
        self._too_large: list[str] = []
        if config.optimizer == "soap":
            self.groups = [part for group in self.groups for part in self._parts(group, model, head)]
        self.optimizer = _CLASSES[config.optimizer](self.groups, weight_decay=config.weight_decay)

    def _parts(self, group: dict[str, Any], model: nn.Module, head: str | None) -> list[dict[str, Any]]:
        """What SOAP preconditions: parameters of two sides or more, none too long, that are not of the head."""
        names = {p: name for name, p in model.named_parameters()}
        shaped = [p for p in group["params"] if p.ndim > 1 and (head is None or f".{head}." not in f".{names[p]}")]
        chosen = {p for p in shaped if max(p.shape) <= LARGEST_SIDE}
        self._too_large += [names[p] for p in shaped if p not in chosen]
        others = [p for p in group["params"] if p not in chosen]
        parts = [
            {**group, "params": [p for p in group["params"] if p in chosen], "preconditioned": True, "betas": BETAS},
            {**group, "params": others, "preconditioned": False},
        ]
        return [part for part in parts if part["params"]]

    @property
    def note(self) -> str:
        """Where and how often SOAP took AdamW's steps instead of its own; empty where it did not have to."""
        notes = []
        if self._too_large:
            notes.append(
                f"AdamW's steps for {len(self._too_large)} parameters with a side longer than {LARGEST_SIDE}: "
                + ", ".join(self._too_large)
            )
        resets = self.optimizer.resets if isinstance(self.optimizer, SOAP) else 0
        if resets:
            notes.append(f"a curvature was not finite {resets} times, and its parameter went back to AdamW's steps")
        return "; ".join(notes)


def parameter_groups(model: nn.Module, config: OptimizationConfig, head: str | None) -> list[dict[str, Any]]:
    """What trains, the head apart with a rate of its own; the first group is the one whose rate the history shows.

    Raises FiltersubError where nothing requires a gradient.
    """
    trained = [(f".{name}", p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise FiltersubError("nothing to train: no parameter of the model requires a gradient")
    in_head = [p for name, p in trained if head is not None and f".{head}." in name]
    others = [p for name, p in trained if head is None or f".{head}." not in name]
    groups = [{"params": others, "lr": config.learning_rate}, {"params": in_head, "lr": config.head_rate}]
    return [group for group in groups if group["params"]]


def factor_at(config: OptimizationConfig, peak: float, warmup: float, total: int) -> Callable[[int], float]:
    """Factor of a peak rate at a step: linear over the warm-up, then half a cosine down to the floor, or constant.

    ``warmup`` and ``total`` are steps.
    """
    floor = config.min_rate / peak

    def factor(step: int) -> float:
        if step < warmup:
            if config.warmup_rate is None:
                return (step + 1) / (warmup + 1)
            start = config.warmup_rate / peak
            return start + (1 - start) * step / warmup
        if config.schedule == "constant":
            return 1.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))

    return factor
