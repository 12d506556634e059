"""A whole model in one call: plan, decompose layer by layer, keep what is finished; and dictionaries that layers of one
patch shape share, with what that costs in error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..dictionary import DictionaryResult
from ..errors import FiltersubError
from ..folder_lock import locks
from ..kernels import named_layers
from ..sparse_coding.linear import second_moment
from .file import ModelDecomposition, check_decomposition
from .folder import DecompositionFolder
from .layer import code_weight, decomposable_rows, decompose_weight, learn
from .plan import PlannedLayer, check_weights, plan_layers
from .recipe import DecompositionConfig, check_overrides
from .result import Decomposition

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 1 << 20  # stacked rows that are learned on: all of them, or so many drawn at random


class DecompositionInterrupted(KeyboardInterrupt):
    """Ctrl-C while a model was decomposed; ``finished`` is the ModelDecomposition of the layers that were."""

    def __init__(self, message: str, finished: ModelDecomposition) -> None:
        super().__init__(message)
        self.finished = finished


@locks("folder")
def decompose_model(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig | None = None,
    *,
    layers: str | None = None,
    exclude: tuple[str, ...] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    shared: bool | str | Sequence[str] = False,
    folder: str | os.PathLike[str] | None = None,
    atoms_only: bool = False,
    fresh: bool = False,
    finished: ModelDecomposition | None = None,
    on_layer: Callable[[int, int, str], None] | None = None,
) -> ModelDecomposition:
    """Decompose every layer that takes part (see select_layers).

    Parameters
    ----------
    model : Module, or the tensors of a bare weight file by name
    config : the recipe
    layers : regular expression of layer names; exclude : names left out, the head for one
    overrides : settings of the recipe by pattern of layer names, ``{"stage4": {"atoms": 12}}``; of several patterns
        that match a layer the last one wins
    shared : True: layers of one patch shape and recipe share one dictionary; or patterns of layer names, each with
        dictionaries of its own. A dictionary is learned on the stacked rows (see learn_shared)
    folder : where each layer is written when it is finished, and at the end ``atoms.safetensors``; a rerun with the
        same recipe and weights does only the rest. The coefficients then stay in the file until they are touched, so
        memory does not grow with the model
    atoms_only : leave the coefficients out of ``atoms.safetensors`` (they are made again at load)
    fresh : start over where the folder holds a decomposition already
    finished : layers that are done already, from DecompositionInterrupted; trusted to be of this recipe and model
    on_layer : called with (layers done, layers in all, name) before each layer; ``with progress_bar() as on_layer``
        (filtersub.progress) draws a bar

    Raises FiltersubError before any work is done where nothing takes part, a weight is not finite, a pattern matches
    nothing, the penalty leaves nothing, the atoms are more than any layer's rows, or the folder holds something else.
    Raises DecompositionInterrupted (a KeyboardInterrupt) on Ctrl-C; it carries the finished layers.
    """
    config = config or DecompositionConfig()
    plan = plan_layers(model, config, layers=layers, exclude=exclude, overrides=overrides, shared=shared)
    check_weights(model, plan)
    checked = check_overrides(overrides)
    sharing = shared if isinstance(shared, bool) else (shared,) if isinstance(shared, str) else tuple(shared)

    def of(parts: dict[str, Decomposition]) -> ModelDecomposition:
        return ModelDecomposition({name: parts[name] for name in plan if name in parts}, config, checked, sharing)

    home = None if folder is None else DecompositionFolder(folder, plan, fresh=fresh)
    done = dict(finished.layers) if finished is not None else {}
    if home is not None:
        done.update(home.finished(model))
    modules, dictionaries = dict(named_layers(model)), {}
    try:
        for index, name in enumerate(plan):
            if on_layer is not None:
                on_layer(index, len(plan), name)
            if name in done:
                continue
            layer = _decomposed(model, modules[name], name, plan, dictionaries, done)
            done[name] = layer if home is None else home.add(of({name: layer}))
    except KeyboardInterrupt:
        message = f"interrupted: {len(done)} of {len(plan)} layers are kept in {folder}; run the same again to go on"
        if folder is None:
            message = f"interrupted after {len(done)} of {len(plan)} layers, which were not written anywhere; "
            message += "a folder (--out) keeps them"
        raise DecompositionInterrupted(message, of(done)) from None
    whole = of(done)
    return whole if home is None else home.close(whole, atoms_only=atoms_only)


def _decomposed(
    model: nn.Module | Mapping[str, Tensor],
    layer: nn.Module | Tensor,
    name: str,
    plan: Mapping[str, PlannedLayer],
    dictionaries: dict[str, DictionaryResult | None],
    done: Mapping[str, Decomposition],
) -> Decomposition:
    """One layer; ``dictionaries`` keeps the shared ones that were learned."""
    planned, title = plan[name], plan[name].dictionary
    if title is None:
        return decompose_weight(planned.layout, layer, planned.recipe)
    there = next((other for other in done.values() if other.dictionary == title), None)
    if there is not None and title not in dictionaries:  # learned before the interruption
        return code_weight(planned.layout, layer, planned.recipe, there.atoms, dictionary=title)
    if title not in dictionaries:
        dictionaries[title] = learn_shared(model, {k: v for k, v in plan.items() if v.dictionary == title})
    learned = dictionaries[title]
    if learned is None:
        return decompose_weight(planned.layout, layer, planned.recipe)
    rows = sum(other.layout.n_rows for other in plan.values() if other.dictionary == title)
    return code_weight(
        planned.layout,
        layer,
        planned.recipe,
        learned.atoms,
        dictionary=title,
        learned=learned,
        share=planned.layout.n_rows / rows,
    )


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
    weights = [modules[name] if isinstance(modules[name], Tensor) else modules[name].weight for name in members]
    dtype = torch.float64 if any(weight.dtype == torch.float64 for weight in weights) else torch.float32
    if recipe.code_kind == "linear":
        moments = [second_moment(decomposable_rows(layer.layout, modules[name])) for name, layer in members.items()]
        values, vectors = torch.linalg.eigh(torch.stack([moment.to(moments[0]) for moment in moments]).sum(0))
        rows = (values.clamp_min(0).sqrt()[:, None] * vectors.T).to(dtype)  # whose second moment that is
        n_atoms = min(n_atoms, first.layout.patch_size)
    else:
        rows = _stacked(members, modules, total, most_rows, dtype)
    return learn(rows, n_atoms, recipe, first.layout, first.dictionary) if bool(rows.any()) else None


def sharing_table(shared: ModelDecomposition, own: ModelDecomposition) -> pd.DataFrame:
    """What sharing dictionaries costs: one row a layer that shares, beside its decomposition with atoms of its own.

    Columns: name, dictionary, rows, atoms_shared (of the whole group), atoms_own (of the layer), relative_error_shared,
    relative_error_own, objective_shared, objective_own. Both must be decompositions of one model by one recipe.
    """
    check_decomposition(shared)
    check_decomposition(own)
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
