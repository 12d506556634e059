"""Distributions within layers as a few quantiles: what a plot needs of tables that may have millions of rows."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from torch import Tensor, nn

from ..decomposition import ModelDecomposition
from .coherence import correlation_table
from .kernels import kernel_table

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def kernel_quantiles(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """Quantiles over each layer's kernels of kernel_table's relative_error: name, quantile, relative_error.

    One layer is held at a time. Kernels of zeros are left out; a layer of nothing else has NaN.
    """
    parts = [
        _quantiles(kernel_table(model, ModelDecomposition({name: layer}, decomposition.config)), "relative_error")
        for name, layer in decomposition.layers.items()
    ]
    return pd.concat(parts, ignore_index=True)


def correlation_quantiles(decomposition: ModelDecomposition) -> pd.DataFrame:
    """Quantiles over the pairs of a layer's atoms of correlation_table: name, quantile, correlation; none for m = 1."""
    return _quantiles(correlation_table(decomposition), "correlation")


def _quantiles(table: pd.DataFrame, column: str) -> pd.DataFrame:
    found = table.groupby("name", sort=False)[column].quantile(list(QUANTILES))
    return found.rename_axis(["name", "quantile"]).reset_index()
