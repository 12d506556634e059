"""One dictionary for several layers of one patch shape, and what that costs in error."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..dictionary import DictionaryResult
from ..errors import FiltersubError
from ..kernels import named_layers
from ..sparse_coding.linear import second_moment
from .file import ModelDecomposition
from .layer import decomposable_rows, learn
from .plan import PlannedLayer

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 1 << 20  # stacked rows that are learned on: all of them, or so many drawn at random


def learn_shared(
    model: nn.Module | Mapping[str, Tensor], members: Mapping[str, PlannedLayer], most_rows: int = _MOST_ROWS
) -> DictionaryResult | None:
    """Atoms for the stacked rows of several layers, all of one patch shape and recipe.

    At most ``most_rows`` rows are stacked, a seeded random part of each layer in proportion to its rows; with fewer
    rows in all, every one. Linear codes depend on the rows through ``rows^T rows`` alone, which is summed over the
    layers, so they are exact at any size. No second copy of all weights is made. The codes of the result are those of
    the rows that were stacked; code each layer over its atoms with code_weight. None where every kernel is zero.
    """
    modules = dict(named_layers(model))
    first = next(iter(members.values()))
    recipe, total = first.recipe, sum(layer.layout.n_rows for layer in members.values())
    n_atoms = min(recipe.atoms * prod(first.layout.block), total)
    dtype = _dtype(members, modules)
    if recipe.code_kind == "linear":
        moments = [second_moment(decomposable_rows(layer.layout, modules[name])) for name, layer in members.items()]
        rows = _square_root(torch.stack([moment.to(moments[0]) for moment in moments]).sum(0)).to(dtype)
        n_atoms = min(n_atoms, first.layout.patch_size)
    else:
        rows = _stacked(members, modules, total, most_rows, dtype)
    return learn(rows, n_atoms, recipe, first.layout, first.dictionary) if bool(rows.any()) else None


def sharing_table(shared: ModelDecomposition, own: ModelDecomposition) -> pd.DataFrame:
    """What sharing dictionaries costs: one row a layer that shares, beside its decomposition with atoms of its own.

    Columns: name, dictionary, rows, atoms_shared (of the whole group), atoms_own (of the layer), relative_error_shared,
    relative_error_own, objective_shared, objective_own. Both must be decompositions of one model by one recipe.
    """
    rows = []
    for name, layer in shared.layers.items():
        if layer.dictionary is None:
            continue
        alone = own.layers.get(name)
        if alone is None or alone.weight_fingerprint != layer.weight_fingerprint:
            raise FiltersubError(f"the decompositions to compare are not of one model: they differ in layer {name!r}")
        rows.append(
            {
                "name": name,
                "dictionary": layer.dictionary,
                "rows": layer.layout.n_rows,
                "atoms_shared": layer.atoms.shape[0],
                "atoms_own": alone.atoms.shape[0],
                "relative_error_shared": layer.relative_error,
                "relative_error_own": alone.relative_error,
                "objective_shared": layer.objective,
                "objective_own": alone.objective,
            }
        )
    if not rows:
        raise FiltersubError("no layers share a dictionary here; decompose with shared=True first")
    import pandas as pd

    return pd.DataFrame(rows)


def _stacked(
    members: Mapping[str, PlannedLayer],
    modules: Mapping[str, nn.Module | Tensor],
    total: int,
    most_rows: int,
    dtype: torch.dtype,
) -> Tensor:
    generator, parts = torch.Generator().manual_seed(next(iter(members.values())).recipe.seed), []
    for name, layer in members.items():
        rows = decomposable_rows(layer.layout, modules[name])
        if total > most_rows:
            kept = max(1, round(rows.shape[0] * most_rows / total))
            rows = rows[torch.randperm(rows.shape[0], generator=generator)[:kept].to(rows.device)]
        parts.append(rows)
    return torch.cat([rows.to(parts[0].device, dtype) for rows in parts])


def _dtype(members: Mapping[str, PlannedLayer], modules: Mapping[str, nn.Module | Tensor]) -> torch.dtype:
    weights = [modules[name] if isinstance(modules[name], Tensor) else modules[name].weight for name in members]
    return torch.float64 if any(weight.dtype == torch.float64 for weight in weights) else torch.float32


def _square_root(moment: Tensor) -> Tensor:
    """(d, d) rows R with ``R^T R`` the given second moment."""
    values, vectors = torch.linalg.eigh(moment)
    return values.clamp_min(0).sqrt()[:, None] * vectors.T
