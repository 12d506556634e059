"""Trained parameters over the grid of settings, and those of LoRA of each rank to stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from .architectures import load_architecture
from .baselines import BaselineOptions
from .counting import count_parameters


def landscape(
    model: str | nn.Module | Mapping[str, Tensor],
    atoms: Sequence[int] = (6, 9, 12),
    expansions: Sequence[int | None] = (None, 3, 4, 5, 6),
    blocks: Sequence[int | None] = (None, 2, 4),
    *,
    block_spatial: bool = False,
    expansion_coefficients: str = "shared",
    layers: str | None = None,
) -> pd.DataFrame:
    """One row a setting: m, m_1, k_c (0 for none), trainable (without the head), fraction (of the model)."""
    module = load_architecture(model) if isinstance(model, str) else model
    rows = []
    for m, m_1, k_c in product(atoms, expansions, blocks):
        recipe = DecompositionConfig(
            atoms=m,
            block=k_c,
            block_spatial=block_spatial and k_c is not None,
            expansion=m_1,
            expansion_coefficients=expansion_coefficients,
        )
        found = count_parameters(module, recipe=recipe, layers=layers)
        rows.append(
            {"m": m, "m_1": m_1 or 0, "k_c": k_c or 0, "trainable": found.trainable, "fraction": found.fraction}
        )
    return pd.DataFrame(rows)


def lora_ranks(
    model: str | nn.Module | Mapping[str, Tensor],
    ranks: Sequence[int] = (1, 4, 16, 64),
    methods: Sequence[str] = ("lora", "lora-loralib"),
    *,
    layers: str | None = None,
) -> pd.DataFrame:
    """One row a method and rank: method, rank, layers (that have an adapter), trainable, fraction."""
    module = load_architecture(model) if isinstance(model, str) else model
    rows = []
    for method, rank in product(methods, ranks):
        found = count_parameters(module, method, options=BaselineOptions(rank=rank), layers=layers)
        reached = len(found.layers)
        rows.append(
            {
                "method": method,
                "rank": rank,
                "layers": reached,
                "trainable": found.trainable,
                "fraction": found.fraction,
            }
        )
    return pd.DataFrame(rows)
