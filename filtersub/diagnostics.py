"""How good a decomposition is, as tidy pandas tables; figures take those tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
from torch import Tensor, nn

from .decomposition import Decomposition, DecompositionConfig, ModelDecomposition, decompose_weight
from .kernels import named_layers, select_layers


def layer_table(model: ModelDecomposition) -> pd.DataFrame:
    """One row a layer: name, kind, shape, block, rows, atoms, solver, relative_error, density, objective, ...

    ``relative_error`` is ``||F - alpha x D||_F / ||F||_F``, ``density`` the fraction of nonzero coefficients,
    ``objective``
    ``1/2 ||F - alpha x D||_F^2 + l ||alpha||_1`` (a sum over rows), ``iterations`` the rounds of dictionary learning.
    """
    return pd.DataFrame([_row(name, layer) for name, layer in model.layers.items()])


def convergence_table(model: ModelDecomposition) -> pd.DataFrame:
    """The objective of each layer after each round on all its rows: name, round, objective, relative_to_start."""
    rows = [
        {"name": name, "round": index, "objective": value, "relative_to_start": value / layer.history[0]}
        for name, layer in model.layers.items()
        for index, value in enumerate(layer.history)
        if layer.history[0] > 0
    ]
    return pd.DataFrame(rows, columns=["name", "round", "objective", "relative_to_start"])


def error_curve(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig,
    atoms: Sequence[int],
    *,
    layers: str | None = None,
    exclude: tuple[str, ...] = (),
    on_layer: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """layer_table of the same layers for each m, with a column ``m``; ``atoms`` is what a layer could make of it."""
    settings = [replace(config, atoms=m) for m in atoms]
    layouts = select_layers(
        model, layers=layers, block=config.block, block_spatial=config.block_spatial, exclude=exclude
    )
    modules, rows = dict(named_layers(model)), []
    for index, setting in enumerate(settings):
        for position, (name, layout) in enumerate(layouts.items()):
            if on_layer is not None:
                on_layer(index * len(layouts) + position, len(settings) * len(layouts), f"{name}, m = {setting.atoms}")
            rows.append({"m": setting.atoms, **_row(name, decompose_weight(layout, modules[name], setting))})
    return pd.DataFrame(rows)


def _row(name: str, layer: Decomposition) -> dict[str, object]:
    return {
        "name": name,
        "kind": layer.layout.kind,
        "shape": list(layer.layout.shape),
        "block": list(layer.layout.block),
        "rows": layer.layout.n_rows,
        "atoms": layer.atoms.shape[0],
        "solver": layer.solver,
        "relative_error": layer.relative_error,
        "density": layer.density,
        "objective": layer.objective,
        "iterations": layer.iterations,
        "converged": layer.converged,
        "seconds": layer.seconds,
    }
