"""A decomposition's layers beside the kernels they were made from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from ..decomposition import Decomposition, ModelDecomposition
from ..errors import FiltersubError
from ..kernels import kernel_matrix, named_layers


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, of models too whose layers keep a computed weight (torch's older weight norm), which torch refuses
    to copy while it hangs on a graph."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                vars(module)[name] = value.detach()  # the next forward pass computes it anew
    return copy.deepcopy(model)


def rows_and_rebuilt(
    model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition
) -> Iterator[tuple[str, Decomposition, Tensor, Tensor]]:
    """(name, layer, rows, rebuilt rows) of each decomposed layer, rows (n_rows, d) in float64.

    ``model`` is what was decomposed. Raises FiltersubError where it has no such layer, or one of another shape.
    """
    modules = dict(named_layers(model))
    for name, layer in decomposition.layers.items():
        if name not in modules:
            raise FiltersubError(f"the model has no layer {name!r}, so this is not the model that was decomposed")
        rows = kernel_matrix(layer.layout, modules[name]).double()
        yield name, layer, rows, layer.layout.to_rows(layer.weight()).to(rows)
