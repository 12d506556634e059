"""The effect of the penalty: a decomposition at each value of l, from the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import pandas as pd
from torch import Tensor, nn

from ..decomposition import DecompositionConfig, decompose_weight
from ..errors import FiltersubError
from ..kernels import kernel_matrix, named_layers, select_layers
from ..settings import check_each, check_number


def penalty_path(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig,
    penalties: Sequence[float],
    *,
    layers: str | None = None,
    exclude: tuple[str, ...] = (),
    on_layer: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Atoms and coefficients of every layer learned anew at each l, one row a layer and l.

    Parameters
    ----------
    model : Module or tensors by name
    config : the recipe; its ``l1_penalty`` is replaced by each of ``penalties``
    penalties : values of l >= 0 in ``1/2 ||rows - C D||_F^2 + l ||C||_1`` (half the paper's lambda)
    layers, exclude, on_layer : as in decompose_model

    Returns
    -------
    DataFrame
        name, seed, l1_penalty, weights, coefficients, nonzeros, density, squared_norm, squared_error, relative_error,
        objective, rounds, seconds, largest_norm. ``coefficients`` counts zeros too. ``largest_norm`` is that of the
        layer's largest kernel: from that value of l on every coefficient is zero, whatever the unit-norm atoms.

    Raises FiltersubError when no value is given, one is no number or below 0, or the solver pays no penalty.
    """
    penalties = check_each("penalties", penalties, check_number, 0)
    if config.code_kind != "penalty":
        raise FiltersubError(f"solver {config.solver!r} pays no penalty, so it has no path; use 'lasso'")
    settings = [replace(config, l1_penalty=float(value)) for value in penalties]
    layouts = select_layers(model, layers=layers, exclude=exclude, **config.kernel_blocks)
    modules, rows = dict(named_layers(model)), []
    for index, setting in enumerate(settings):
        for position, (name, layout) in enumerate(layouts.items()):
            if on_layer is not None:
                done = index * len(layouts) + position
                on_layer(done, len(settings) * len(layouts), f"{name}, l = {setting.l1_penalty:g}")
            layer = decompose_weight(layout, modules[name], setting)
            kernels = kernel_matrix(layout, modules[name])
            rows.append(
                {
                    "name": name,
                    "seed": setting.seed,
                    "l1_penalty": setting.l1_penalty,
                    "weights": prod(layout.shape),
                    "coefficients": layer.coefficients.numel(),
                    "nonzeros": int((layer.coefficients != 0).sum()),
                    "density": layer.density,
                    "squared_norm": layer.squared_norm,
                    "squared_error": layer.squared_error,
                    "relative_error": layer.relative_error,
                    "objective": layer.objective,
                    "rounds": layer.iterations,
                    "seconds": layer.seconds,
                    "largest_norm": float(kernels.double().norm(dim=1).max()),
                }
            )
    return pd.DataFrame(rows)


def total_over_layers(path: pd.DataFrame) -> pd.DataFrame:
    """A penalty_path with all layers taken together, one row an l (and seed).

    Columns: l1_penalty, seed, layers, weights, coefficients, nonzeros, density (nonzeros over coefficients),
    relative_error (over all kernels), rounds, seconds.
    """
    summed = ["weights", "coefficients", "nonzeros", "squared_norm", "squared_error", "rounds", "seconds"]
    grouped = path.groupby(["l1_penalty", "seed"], sort=True)
    table = grouped[summed].sum().reset_index()
    table["layers"] = grouped["name"].nunique().to_numpy()
    table["density"] = table["nonzeros"] / table["coefficients"]
    table["relative_error"] = (table["squared_error"] / table["squared_norm"]) ** 0.5
    order = ["l1_penalty", "seed", "layers", "weights", "coefficients", "nonzeros", "density", "relative_error"]
    return table[[*order, "rounds", "seconds"]]
