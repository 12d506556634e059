"""Compilation happens before the clock runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..decomposition import DecompositionConfig, decompose_model


def warm_up(config: DecompositionConfig, atoms: Sequence[int] = ()) -> None:
    """One short decomposition by the recipe at each m, so that no compilation is counted as the first layer's time."""
    weight = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    for m in {config.atoms, *atoms}:
        decompose_model({"warm": weight}, replace(config, atoms=m, max_rounds=2))
