"""What a tuning run says of each layer: how well atoms and coefficients rebuild it, and how far tuning moved it."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from ..decomposition.cache import LayerFit
from ..markup import boards
from ..tuning import FilterSubspaceLayer

_MOST_ATOMS = 16  # of a layer, those that moved most: blocks of channels have hundreds
_MOST_PIXELS = 256  # of an atom


def layer_tables(model: nn.Module, fits: Mapping[str, LayerFit]) -> dict[str, pd.DataFrame]:
    """Tables ``layers`` and ``atoms`` of a model that was tuned by filter-subspace; empty for other methods.

    ``layers`` has a row a layer: layer, kind, shape, block, atoms, relative_error (||F - alpha x D|| / ||F||), density
    (nonzero coefficients), mean_change and largest_change (norms of an atom's dD, where atoms have norm 1; of atoms by
    input channel the root mean square over channels), weight_change (||alpha x dD|| / ||F||).

    ``atoms`` has a row an atom, at most 16 a layer: layer, atom, height, width, before, after (height x width numbers
    between blanks; a block of channels is laid out as a board of kernels). Layers with atoms by input channel are not
    in it.
    """
    layers, atoms = [], []
    for layer in model.modules():
        if not isinstance(layer, FilterSubspaceLayer) or layer.name not in fits:
            continue
        (adapter,) = layer.active_adapters
        fit, layout = fits[layer.name], layer.layouts[adapter]
        with torch.no_grad():
            change = layer.atoms_update(adapter).detach().double().cpu()
            weight = layer.get_base_layer().weight.detach().double()
            moved = float(layer.get_delta_weight(adapter).detach().double().norm() / weight.norm().clamp_min(1e-300))
        norms = change.norm(dim=-1) if change.ndim == 2 else change.norm(dim=-1).square().mean(0).sqrt()
        layers.append(
            {
                **{"layer": layer.name, "kind": layout.kind, "shape": "x".join(map(str, layout.shape))},
                **{"block": "x".join(map(str, layout.block)), "atoms": len(norms)},
                **{"relative_error": fit.relative_error, "density": fit.density},
                **{"mean_change": float(norms.mean()), "largest_change": float(norms.max()), "weight_change": moved},
            }
        )
        if change.ndim == 2 and layout.patch_size <= _MOST_PIXELS:
            before = fit.atoms.double().cpu()
            shown = norms.topk(min(_MOST_ATOMS, len(norms))).indices.sort().values
            pictures = [boards(each[shown], layout.patch_shape) for each in (before, before + change)]
            for number, one, other in zip(shown.tolist(), *pictures, strict=True):
                size = {"height": one.shape[0], "width": one.shape[1]}
                entries = {"before": _numbers(one), "after": _numbers(other)}
                atoms.append({"layer": layer.name, "atom": number + 1, **size, **entries})
    if not layers:
        return {}
    return {"layers": pd.DataFrame(layers), **({"atoms": pd.DataFrame(atoms)} if atoms else {})}


def _numbers(picture: Tensor) -> str:
    return " ".join(f"{value:.4g}" for value in picture.flatten().tolist())
