"""Tuning runs to explore, before and after: apart from other results, for their imports take seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from ..decomposition import DecompositionConfig
from ..decomposition.layer import decomposable_rows
from ..engine.conv.packed import Packed
from ..errors import FiltersubError
from ..experiment.saved_weights import load_trained, with_adapter
from ..experiment.settings import TuneSettings
from ..experiment.tuned import base_model, settings_of
from ..fingerprint import same_fingerprint
from ..kernels import named_layers
from ..tuning import FilterSubspaceLayer
from ..tuning.codes import frozen_codes
from ..tuning.weight_sum import by_row
from .explorer import Explorer
from .look import Look, found_look


def explorers_of_run(folder: str | os.PathLike[str]) -> tuple[Explorer, Explorer]:
    """(before, after): explorers of the weights that a tuning run started from, and of those that it ended with.

    Of a run by filter-subspace the found looks are the run's own: atoms D before, D + dD after, over the codes alpha
    that both share. Layers whose coefficients or blocks of coefficients were tuned, or with atoms by input channel,
    have none.

    Parameters
    ----------
    folder : as ``filtersub tune --out`` wrote it

    Raises FiltersubError when the folder holds no tuning run or its weights are missing.
    """
    settings, folder = settings_of(folder), Path(folder)
    base, changes = base_model(settings), {}
    if settings.method == "filter-subspace":
        changes = _changes(with_adapter(base_model(settings), folder))
    tuned = load_trained(base_model(settings), settings, folder).eval()
    pairs = _Pairs(dict(named_layers(base)), dict(named_layers(tuned)), changes, settings)
    sides = []
    for side, (model, title) in enumerate(((base, "before tuning"), (tuned, "after tuning"))):
        found: dict[str, Callable[[], Look]] = {name: partial(pairs.look, name, side) for name in changes}
        name = _command_name(settings) if side == 0 else None
        sides.append(Explorer(model, block=settings.block, seed=settings.seed, name=name, title=title, found=found))
    return sides[0], sides[1]


def _changes(model: object) -> dict[str, tuple[FilterSubspaceLayer, Tensor]]:
    """dD (m, d) of each layer whose kernel is F + alpha x dD, by name."""
    changes = {}
    for layer in (module for module in model.modules() if isinstance(module, FilterSubspaceLayer)):
        (adapter,) = layer.active_adapters
        more = adapter in layer.filtersub_coefficients_update or adapter in layer.filtersub_block_atoms
        change = layer.atoms_update(adapter).detach()
        if not more and change.ndim == 2:
            changes[layer.name] = layer, change
    return changes


class _Pairs:
    """The looks before and after tuning of one layer at a time."""

    def __init__(self, base: dict, tuned: dict, changes: dict, settings: TuneSettings) -> None:
        self.base, self.tuned, self.changes, self.settings = base, tuned, changes, settings
        self.made: dict[str, tuple[Look, Look]] = {}

    def look(self, name: str, side: int) -> Look:
        if name not in self.made:
            self.made = {name: self._make(name)}
        return self.made[name][side]

    def _make(self, name: str) -> tuple[Look, Look]:
        layer, change = self.changes[name]
        (adapter,) = layer.active_adapters
        layout, recipe = layer.layouts[adapter], layer.recipes[adapter]
        before, after = (decomposable_rows(layout, side[name]).detach() for side in (self.base, self.tuned))
        atoms, codes = _atoms_and_codes(layer, adapter, recipe, before)
        known = {"layout": layout, "solver": recipe.solver, "seconds": 0.0, "recipe": recipe}
        return (
            found_look(name, codes, atoms, before, found_by="the atoms that the run started from", **known),
            found_look(name, codes, atoms + change, after, found_by="the tuned atoms", **{**known, "recipe": None}),
        )


def _atoms_and_codes(
    layer: FilterSubspaceLayer, adapter: str, recipe: DecompositionConfig, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """D (m, d) and alpha (n_rows, m), made again by the run's recipe and held against its fingerprint."""
    base, layout = layer.get_base_layer(), layer.layouts[adapter]
    made, _ = frozen_codes(layout, base.weight, recipe, hold=adapter not in layer.filtersub_mapping)
    if not same_fingerprint(made["filtersub_fingerprint"], layer.filtersub_fingerprint[adapter]):
        raise FiltersubError(
            f"layer {layer.name!r}: the coefficients made from the base weights are not those of the run; choose a "
            "solver to look at its kernels anew"
        )
    atoms, mapping = made["filtersub_dictionary"], made.get("filtersub_mapping")
    if "filtersub_packed_values" in made:
        packed = Packed(made["filtersub_packed_values"], made["filtersub_packed_indices"], len(atoms))
        return atoms, packed.unpacked()
    return atoms, by_row(made["filtersub_coefficients"]) if mapping is None else rows @ mapping


def _command_name(settings: TuneSettings) -> list[str]:
    """How ``filtersub decompose`` names the model that the run started from."""
    weights = [] if settings.weights is None else ["--weights", settings.weights]
    return [settings.model, *weights, *([] if settings.pretrained else ["--no-pretrained"])]
