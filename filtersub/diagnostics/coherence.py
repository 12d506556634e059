"""How alike a layer's atoms are, and how different they could be at best."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from ..decomposition import ModelDecomposition
from ..settings import check_whole


def welch_bound(n_atoms: int, size: int) -> float:
    """``sqrt((m - d) / (d (m - 1)))``: no m unit-norm vectors in d dimensions have a smaller coherence.

    Says something for m > d alone; otherwise 0, which orthonormal atoms reach. Welch, IEEE Trans. Inf. Theory 20, 1974.

    >>> welch_bound(4, 4), round(welch_bound(3, 2), 3)
    (0.0, 0.5)

    Raises FiltersubError unless both are whole numbers from 1.
    """
    check_whole("n_atoms", n_atoms, 1)
    check_whole("size", size, 1)
    return math.sqrt((n_atoms - size) / (size * (n_atoms - 1))) if n_atoms > size else 0.0


def correlation_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """``|<d_i, d_j>|`` of each pair of distinct atoms, normalised: name, first, second, correlation (0 to 1)."""
    tables = []
    for name, layer in decomposition.layers.items():
        correlations = _correlations(layer.atoms)
        first, second = torch.triu_indices(*correlations.shape, offset=1)
        values = {"first": first.tolist(), "second": second.tolist(), "correlation": correlations[first, second]}
        tables.append(pd.DataFrame({"name": name, **values}))
    return pd.concat(tables, ignore_index=True)


def coherence_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """One row a layer: name, atoms, size, pairs, coherence, mean, median, welch_bound, bound_applies.

    ``coherence`` is the largest ``|<d_i, d_j>|`` of two distinct normalised atoms (0 where there is one atom),
    ``mean`` and ``median`` those over all pairs, ``size`` the length d of an atom. ``bound_applies`` where m > d.
    """
    found = []
    for name, layer in decomposition.layers.items():
        correlations = _correlations(layer.atoms)
        n_atoms = correlations.shape[0]
        pairs = correlations[tuple(torch.triu_indices(n_atoms, n_atoms, offset=1))]
        values = pairs if pairs.numel() else torch.zeros(1, dtype=torch.float64)
        size = layer.atoms.shape[-1]
        found.append(
            {
                "name": name,
                "atoms": n_atoms,
                "size": size,
                "pairs": pairs.numel(),
                "coherence": float(values.max()),
                "mean": float(values.mean()),
                "median": float(values.quantile(0.5)) if values.numel() < 1 << 24 else float(values.median()),
                "welch_bound": welch_bound(n_atoms, size),
                "bound_applies": n_atoms > size,
            }
        )
    return pd.DataFrame(found)


def _correlations(atoms: Tensor) -> Tensor:
    """|cosine| of all pairs (m, m), float64."""
    flat = atoms.detach().cpu().double()
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return (unit @ unit.T).abs().clamp_max(1.0)
