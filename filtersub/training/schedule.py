"""Learning rates: of which parameters, and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import FiltersubError
from .config import OptimizationConfig


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
