"""Finished results to explore: decompositions, dictionaries, codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from ..decomposition import Decomposition, DecompositionConfig, ModelDecomposition
from ..decomposition.layer import decomposable_rows
from ..dictionary import DictionaryResult
from ..errors import FiltersubError
from ..kernels import named_layers
from ..sparse_coding import CodingResult
from .explorer import Explorer
from .look import Look

Result = Decomposition | ModelDecomposition | DictionaryResult | CodingResult
_UNKNOWN = DecompositionConfig()  # of a single layer's decomposition, which does not hold its recipe


def explorer_of(
    result: Result | Explorer,
    *,
    model: nn.Module | Mapping[str, Tensor] | None = None,
    rows: Tensor | None = None,
    atoms: Tensor | None = None,
    name: str | list[str] | None = None,
) -> Explorer:
    """An explorer that begins with a result: each of its layers as it was found, not learned again.

    Parameters
    ----------
    result : of decompose_model or decompose_weight, of learn_dictionary, or of encode
    model : the model that was decomposed, or its tensors: its kernels are then shown, errors of single kernels are
        known, and other settings can be tried beside the result
    rows : Tensor (n_rows, d), what a dictionary was learned on or codes were made of
    atoms : Tensor (n_atoms, d) that codes belong to
    name : what the command line calls the model, for the exported command

    Raises FiltersubError where the model has no such layer, and for anything that is no such result.
    """
    if isinstance(result, Explorer):
        return result
    block = None
    if isinstance(result, Decomposition):
        block = result.layout.block[::-1] if result.layout.block != (1, 1) or not result.layout.is_spatial else None
        result = ModelDecomposition({result.layout.name: result}, _UNKNOWN)
    if isinstance(result, ModelDecomposition):
        if model is not None:
            result.check_fits(model)
        modules = {} if model is None else dict(named_layers(model))
        found = {each: partial(_of_layer, result, each, modules.get(each)) for each in result.layers}
        block = block if result.config is _UNKNOWN else result.config.kernel_blocks["block"]
        return Explorer(model, block=block, name=name, seed=result.config.seed, found=found)
    if isinstance(result, DictionaryResult):
        known = {"seconds": result.seconds, "found_by": f"{result.rounds} rounds"}
        look = Look("dictionary", result.codes, result.atoms, rows, **known)
        return Explorer(None, found={look.layer: lambda: look})
    if isinstance(result, CodingResult):
        known = {"seconds": result.seconds, "found_by": f"{result.iterations:,} iterations"}
        look = Look("codes", result.codes, atoms, rows, **known)
        return Explorer(None, found={look.layer: lambda: look})
    raise FiltersubError(
        f"a {type(result).__name__} cannot be explored; an Explorer, a decomposition, a dictionary, codes or the "
        "folder of a tuning run can"
    )


def _of_layer(result: ModelDecomposition, name: str, layer: nn.Module | Tensor | None) -> Look:
    found = result.layers[name]
    kernels = None if layer is None else decomposable_rows(found.layout, layer).detach()
    known = result.config is not _UNKNOWN and found.dictionary is None
    how = {"seconds": found.seconds, "found_by": f"{found.iterations} rounds", "error": found.relative_error}
    recipe = result.recipe_of(name) if known else None
    return Look(name, found.coefficients, found.atoms, kernels, found.layout, found.solver, recipe, **how)
