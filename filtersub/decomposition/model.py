"""A whole model in one call: plan, decompose layer by layer, keep what is finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..dictionary import DictionaryResult
from ..folder_lock import locks
from ..kernels import named_layers
from .file import ModelDecomposition
from .folder import DecompositionFolder
from .layer import code_weight, decompose_weight
from .plan import PlannedLayer, check_weights, plan_layers
from .recipe import DecompositionConfig, check_overrides
from .result import Decomposition
from .shared import learn_shared


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
        raise DecompositionInterrupted(_how_to_go_on(len(done), len(plan), folder), of(done)) from None
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


def _how_to_go_on(done: int, total: int, folder: str | os.PathLike[str] | None) -> str:
    if folder is None:
        return (
            f"interrupted after {done} of {total} layers, which were not written anywhere; a folder (--out) keeps them"
        )
    return f"interrupted: {done} of {total} layers are kept in {folder}; run the same again to go on"
