"""Tuning runs to explore, before and after: apart from other results, for their imports take seconds."""

import os
from functools import lru_cache

from torch import Tensor, nn

from ..decomposition.layer import decomposable_rows
from ..engine.conv.packed import Packed
from ..errors import FiltersubError
from ..experiment.saved_weights import load_trained, with_adapter
from ..experiment.tuned import base_model, settings_of
from ..files import as_path
from ..fingerprint import same_fingerprint
from ..kernels import named_layers
from ..tuning import FilterSubspaceLayer
from ..tuning.codes import frozen_codes
from ..tuning.weight_sum import by_row
from .explorer import Explorer
from .look import Look


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
    settings, folder = settings_of(folder), as_path(folder)
    base, changes = base_model(settings), {}  # dD (m, d) of each layer whose kernel is F + alpha x dD, by name
    if settings.method == "filter-subspace":
        adapted = with_adapter(base_model(settings), folder)
        for layer in (module for module in adapted.modules() if isinstance(module, FilterSubspaceLayer)):
            (adapter,) = layer.active_adapters
            more = adapter in layer.filtersub_coefficients_update or adapter in layer.filtersub_block_atoms
            change = layer.atoms_update(adapter).detach()
            if not more and change.ndim == 2:
                changes[layer.name] = layer, change
    tuned = load_trained(base_model(settings), settings, folder).eval()
    modules = [dict(named_layers(model)) for model in (base, tuned)]

    @lru_cache(maxsize=1)  # both sides of one layer at a time
    def looks(name: str) -> tuple[Look, Look]:
        return _looks(name, *changes[name], *(side[name] for side in modules))

    weights = [] if settings.weights is None else ["--weights", settings.weights]
    command = [settings.model, *weights, *([] if settings.pretrained else ["--no-pretrained"])]
    known = {"block": settings.recipe.block, "seed": settings.seed}
    before = {name: lambda name=name: looks(name)[0] for name in changes}
    after = {name: lambda name=name: looks(name)[1] for name in changes}
    return (
        Explorer(base, name=command, title="before tuning", found=before, **known),
        Explorer(tuned, title="after tuning", found=after, **known),
    )


def _looks(
    name: str, layer: FilterSubspaceLayer, change: Tensor, base: nn.Module, tuned: nn.Module
) -> tuple[Look, Look]:
    """A layer before and after tuning over alpha (n_rows, m), made again by the run's recipe and held against its
    fingerprint."""
    (adapter,) = layer.active_adapters
    layout, recipe, own = layer.layouts[adapter], layer.recipes[adapter], layer.get_base_layer()
    made, _ = frozen_codes(layout, own.weight, recipe, hold=adapter not in layer.filtersub_mapping)
    if not same_fingerprint(made["filtersub_fingerprint"], layer.filtersub_fingerprint[adapter]):
        words = "the base weights give other coefficients than the run had; choose a solver to look at its kernels anew"
        raise FiltersubError(f"layer {layer.name!r}: {words}")
    before, after = (decomposable_rows(layout, side).detach() for side in (base, tuned))
    atoms, mapping = made["filtersub_dictionary"], made.get("filtersub_mapping")
    if "filtersub_packed_values" in made:
        codes = Packed(made["filtersub_packed_values"], made["filtersub_packed_indices"], len(atoms)).unpacked()
    else:
        codes = by_row(made["filtersub_coefficients"]) if mapping is None else before @ mapping
    solver = recipe.solver
    started = Look(name, codes, atoms, before, layout, solver, recipe, found_by="the atoms that the run started from")
    return started, Look(name, codes, atoms + change, after, layout, solver, found_by="the tuned atoms")
