"""Layers and the whole model: how well they are rebuilt, how sparse the coefficients are, what it took; for one recipe,
several m, or several penalties.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import pandas as pd
from torch import Tensor, nn

from ..decomposition import Decomposition, DecompositionConfig, ModelDecomposition, decompose_weight
from ..decomposition.file import check_decomposition
from ..decomposition.layer import codes_over
from ..errors import FiltersubError
from ..kernel_layout import KernelLayout
from ..kernels import kernel_matrix, named_layers, select_layers
from ..settings import check_each, check_kind, check_number, check_whole
from .kernels import rows_and_rebuilt


def layer_table(model: ModelDecomposition) -> pd.DataFrame:
    """One row a layer: name, kind, shape, block, rows, atoms, solver, relative_error, density, objective, iterations,
    converged, seconds, stopped, dictionary, note.

    ``relative_error`` is ``||F - alpha x D||_F / ||F||_F``, ``density`` the fraction of nonzero coefficients,
    ``objective`` ``1/2 ||F - alpha x D||_F^2 + l ||alpha||_1`` (a sum over rows), ``iterations`` the rounds of
    dictionary learning, ``stopped`` why it stopped, ``dictionary`` the name of the one that the layer shares (None
    where it has its own), ``note`` what is unusual about it.
    """
    check_decomposition(model)
    return pd.DataFrame([_row(name, layer) for name, layer in model.layers.items()])


def model_table(model: ModelDecomposition) -> pd.DataFrame:
    """The whole model in one row: layers, rows, weights, atoms, coefficients, nonzeros, relative_error, density,
    rounds, converged_layers, seconds.

    ``weights`` counts the numbers in the decomposed kernels, ``coefficients`` those of alpha, zeros included;
    ``relative_error`` is over all kernels together, ``seconds`` the sum over layers.
    """
    check_decomposition(model)
    layers = list(model.layers.values())
    coefficients = sum(layer.coefficients.numel() for layer in layers)
    nonzeros = sum(int((layer.coefficients != 0).sum()) for layer in layers)
    row = {
        "layers": len(layers),
        "rows": sum(layer.layout.n_rows for layer in layers),
        "weights": sum(prod(layer.layout.shape) for layer in layers),
        "atoms": sum(layer.coefficients.shape[-1] for layer in layers),
        "coefficients": coefficients,
        "nonzeros": nonzeros,
        "relative_error": model.relative_error,
        "density": nonzeros / max(1, coefficients),
        "rounds": sum(layer.iterations for layer in layers),
        "converged_layers": sum(layer.converged for layer in layers),
        "seconds": model.seconds,
    }
    return pd.DataFrame([row])


def cost_table(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """What each layer took: name, rows, size, atoms, rounds, codings_of_all_rows, learning_seconds, coding_iterations,
    coding_seconds, rows_per_second, optimality_over_penalty.

    ``rounds`` of dictionary learning are those of all starts and parts of the rows together; ``codings_of_all_rows``
    counts how often the kept start coded every row, its first and last coding included. The other ``coding`` columns
    are of one more coding of all rows over the finished atoms, cold, timed here; its iterations are the solver's own.
    ``optimality_over_penalty`` is its largest KKT violation over l, NaN where no penalty is paid.

    Raises FiltersubError when a layer is missing or of another shape.
    """
    found = []
    for name, layer, rows, _ in rows_and_rebuilt(model, decomposition):
        recipe = decomposition.recipe_of(name)
        coding = codes_over(rows.to(layer.atoms), layer.atoms, recipe)
        penalised = recipe.code_kind == "penalty" and recipe.l1_penalty > 0
        row = {
            "name": name,
            "rows": rows.shape[0],
            "size": rows.shape[1],
            "atoms": layer.atoms.shape[0],
            "rounds": layer.iterations,
            "codings_of_all_rows": len(layer.history),
            "learning_seconds": layer.seconds,
            "coding_iterations": coding.iterations,
            "coding_seconds": coding.seconds,
            "rows_per_second": rows.shape[0] / coding.seconds if coding.seconds > 0 else float("nan"),
            "optimality_over_penalty": coding.optimality / recipe.l1_penalty if penalised else float("nan"),
        }
        found.append(row)
    return pd.DataFrame(found)


def level_table(model: ModelDecomposition) -> pd.DataFrame:
    """The chain of atoms made of atoms, one row a layer and level: name, level, atoms, coefficients, per_channel,
    atoms_error, weight_error.

    Level 0 is the layer's own atoms D, with alpha as its coefficients. At level l, ``atoms`` counts those of D_l and
    ``coefficients`` the numbers in alpha_l; ``atoms_error`` is ``||D_{l-1} - alpha_l x D_l||_F / ||D_{l-1}||_F`` (NaN
    at level 0) and ``weight_error`` the kernel's relative error with the chain down to this level put in.
    """
    check_decomposition(model)
    rows = []
    for name, layer in model.layers.items():
        top = {"atoms": layer.atoms.shape[0], "coefficients": layer.coefficients.numel(), "per_channel": False}
        errors = {"atoms_error": float("nan"), "weight_error": layer.relative_error}
        rows.append({"name": name, "level": 0, **top, **errors})
        for number, level in enumerate(layer.levels, start=1):
            own = {"atoms": prod(level.atoms.shape[:-1]), "coefficients": level.coefficients.numel()}
            errors = {"atoms_error": level.atoms_error, "weight_error": level.weight_error}
            rows.append({"name": name, "level": number, **own, "per_channel": level.per_channel, **errors})
    return pd.DataFrame(rows)


def convergence_table(model: ModelDecomposition) -> pd.DataFrame:
    """The objective of each layer after each round on all its rows: name, round, objective, relative_to_start."""
    check_decomposition(model)
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
    known: ModelDecomposition | None = None,
    on_decomposed: Callable[[Decomposition, DecompositionConfig], None] | None = None,
) -> pd.DataFrame:
    """layer_table of the same layers for each m, with a column ``m``; ``atoms`` is what a layer could make of it.

    ``known`` is a decomposition of the same weights; its layers are not decomposed again where an m is its own.
    ``on_decomposed`` is called with each layer that is, and its recipe.
    """
    check_kind("config", config, DecompositionConfig)
    settings = [(f"m = {m}", replace(config, atoms=m)) for m in check_each("atoms", atoms, check_whole, 1)]
    layouts = select_layers(model, layers=layers, exclude=exclude, **config.kernel_blocks)
    modules, rows = dict(named_layers(model)), []
    for name, layout, setting in _each_layer(layouts, settings, on_layer):
        layer = known.layers.get(name) if known is not None and known.recipe_of(name) == setting else None
        if layer is None:
            layer = decompose_weight(layout, modules[name], setting)
            if on_decomposed is not None:
                on_decomposed(layer, setting)
        rows.append({"m": setting.atoms, **_row(name, layer)})
    return pd.DataFrame(rows)


def _each_layer(
    layouts: Mapping[str, KernelLayout],
    settings: Sequence[tuple[str, DecompositionConfig]],
    on_layer: Callable[[int, int, str], None] | None,
) -> Iterator[tuple[str, KernelLayout, DecompositionConfig]]:
    """Every layer at each of the named settings, told before it is worked on."""
    for done, ((words, setting), (name, layout)) in enumerate(product(settings, layouts.items())):
        if on_layer is not None:
            on_layer(done, len(settings) * len(layouts), f"{name}, {words}")
        yield name, layout, setting


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
    check_kind("config", config, DecompositionConfig)
    penalties = check_each("penalties", penalties, check_number, 0)
    if config.code_kind != "penalty":
        raise FiltersubError(f"solver {config.solver!r} pays no penalty, so it has no path; use 'lasso'")
    settings = [(f"l = {float(value):g}", replace(config, l1_penalty=float(value))) for value in penalties]
    layouts = select_layers(model, layers=layers, exclude=exclude, **config.kernel_blocks)
    modules, rows = dict(named_layers(model)), []
    for name, layout, setting in _each_layer(layouts, settings, on_layer):
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
        "stopped": layer.stopped,
        "dictionary": layer.dictionary,
        "note": layer.note,
    }
