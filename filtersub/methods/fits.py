"""How well the atoms of an injected model rebuild each of its layers, before anything is tuned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..decomposition.cache import DecompositionCache, LayerFit
from ..kernels import KernelLayout, kernel_matrix
from ..sparse_coding.linear import second_moment
from ..tuning import FilterSubspaceLayer


def layer_fits(model: nn.Module, cache: DecompositionCache | None) -> dict[str, LayerFit]:
    """By name the layers of filter-subspace whose atoms are known: those that came through ``cache``, and those whose
    codes are a linear map of the kernels."""
    found = {} if cache is None else dict(cache.fits)
    for layer in model.modules():
        if isinstance(layer, FilterSubspaceLayer) and layer.name not in found:
            for adapter, mapping in layer.filtersub_mapping.items():
                if mapping.is_meta:  # a model of shapes alone has no fit
                    continue
                found[layer.name] = mapped_fit(layer.layouts[adapter], layer.get_base_layer(), mapping)
    return found


def mapped_fit(layout: KernelLayout, layer: nn.Module | Tensor, mapping: Tensor) -> LayerFit:
    """The fit of linear codes ``alpha = F V`` for V (d, m) over orthonormal atoms, which V's columns are but for scale.

    The error is computed from the second moment of the kernels, in float64: alpha is never made.
    """
    rows = kernel_matrix(layout, layer)
    moment = second_moment(rows).double().to(mapping.device)
    v = mapping.double()
    atoms = v.T / v.norm(dim=0)[:, None].clamp_min(torch.finfo(v.dtype).tiny)
    left = torch.eye(len(v), dtype=v.dtype, device=v.device) - v @ atoms
    squared, norm = float((left.T @ moment @ left).trace()), float(moment.trace())
    return LayerFit(atoms, (max(squared, 0.0) / norm) ** 0.5 if norm > 0 else 0.0, 1.0)
