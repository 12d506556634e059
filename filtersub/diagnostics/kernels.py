"""A decomposition's layers beside the kernels they were made from: the error of every single kernel, which a layer's
error hides, and its quantiles within layers, which are what a plot needs of tables that may have millions of rows.
"""

import copy
from collections.abc import Iterator, Mapping

import pandas as pd
from torch import Tensor, nn

from ..decomposition import Decomposition, ModelDecomposition
from ..decomposition.file import check_decomposition
from ..errors import FiltersubError
from ..kernels import kernel_matrix, named_layers
from .atoms import correlation_table

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


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
    check_decomposition(decomposition)
    modules = dict(named_layers(model))
    for name, layer in decomposition.layers.items():
        if name not in modules:
            raise FiltersubError(f"the model has no layer {name!r}, so this is not the model that was decomposed")
        rows = kernel_matrix(layer.layout, modules[name]).double()
        yield name, layer, rows, layer.layout.to_rows(layer.weight()).to(rows)


def kernel_table(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """One row a kernel (a row of the kernel matrix): name, kernel, norm, absolute_error, relative_error, nonzeros.

    Parameters
    ----------
    model : Module or tensors by name, as it was decomposed (its weights are the truth that errors refer to)
    decomposition : of that model, or of some of its layers

    Returns
    -------
    DataFrame
        ``kernel`` counts within its layer, from 0. ``absolute_error`` is ``||f - f_hat||_2``, ``norm`` ``||f||_2`` and
        ``relative_error`` their quotient, in units of the weights and as a fraction; NaN for a kernel of zeros.
        ``nonzeros`` counts its coefficients that are not zero.

    Raises FiltersubError when a layer is missing or of another shape.
    """
    tables = []
    for name, layer, rows, rebuilt in rows_and_rebuilt(model, decomposition):
        norm, error = rows.norm(dim=1), (rows - rebuilt).norm(dim=1)
        values = {
            "name": name,
            "kernel": range(rows.shape[0]),
            "norm": norm.numpy(force=True),
            "absolute_error": error.numpy(force=True),
            "relative_error": (error / norm.where(norm > 0, float("nan"))).numpy(force=True),
            "nonzeros": (layer.coefficients != 0).reshape(rows.shape[0], -1).sum(1).numpy(force=True),
        }
        tables.append(pd.DataFrame(values))
    return pd.concat(tables, ignore_index=True)


def kernel_quantiles(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """Quantiles over each layer's kernels of kernel_table's relative_error: name, quantile, relative_error.

    One layer is held at a time. Kernels of zeros are left out; a layer of nothing else has NaN.
    """
    check_decomposition(decomposition)
    parts = [
        _quantiles(kernel_table(model, ModelDecomposition({name: layer}, decomposition.config)), "relative_error")
        for name, layer in decomposition.layers.items()
    ]
    return pd.concat(parts, ignore_index=True)


def correlation_quantiles(decomposition: ModelDecomposition) -> pd.DataFrame:
    """Quantiles over the pairs of a layer's atoms of correlation_table: name, quantile, correlation; none for m = 1."""
    check_decomposition(decomposition)
    return _quantiles(correlation_table(decomposition), "correlation")


def _quantiles(table: pd.DataFrame, column: str) -> pd.DataFrame:
    found = table.groupby("name", sort=False)[column].quantile(list(QUANTILES))
    return found.rename_axis(["name", "quantile"]).reset_index()
