"""What other tools have made of a tuned layer since its adapter was made, where the layer could not compute with it."""

from __future__ import annotations

import torch
from torch import nn

from ..computed_weights import computes_weight
from ..errors import FiltersubError

_TRAINED = ("filtersub_atoms", "filtersub_expansion", "filtersub_coefficients_update", "filtersub_block_atoms")


def check_unchanged(layer: nn.Module) -> None:
    """FiltersubError where the base weight or the atoms of a FilterSubspaceLayer have become something else.

    The layer reads both without calling the modules that hold them, so that hooks on these (pruning, opacus) would
    never run: a pruned weight would be that of the last call, and gradients of single images would be missing.
    """
    base = layer.get_base_layer()
    if computes_weight(base):
        raise FiltersubError(
            f"layer {layer.name!r}: the weight of its base layer was pruned, parametrised or quantised after the "
            "adapter was made; do that after merge_and_unload, or before the adapter is made"
        )
    if type(base.weight).__module__.startswith("torchao"):
        raise FiltersubError(
            f"layer {layer.name!r}: its base weight was quantised ({type(base.weight).__name__}) after the adapter was "
            "made; quantise after merge_and_unload"
        )
    if layer.training and torch.is_grad_enabled() and _atoms_elsewhere(layer):
        raise FiltersubError(
            f"layer {layer.name!r}: accelerate keeps its atoms elsewhere and brings copies for each call, which would "
            "leave them without a gradient; offload the base model before the adapter is made, or run it in eval mode"
        )
    for name in _TRAINED:
        for held in getattr(layer, name).modules():
            if held._forward_pre_hooks:
                raise FiltersubError(
                    f"layer {layer.name!r}: its atoms were pruned or hooked, but they are read without a call; prune "
                    "after merge_and_unload"
                )
            if "ft_compute_sample_grad" in held.__dict__ or _expanded(held):
                raise FiltersubError(
                    f"layer {layer.name!r}: opacus and torch's call_for_per_sample_grads cannot compute gradients of "
                    "its atoms for single images; torch.func does: vmap(grad(loss)) over functional_call"
                )


def _atoms_elsewhere(layer: nn.Module) -> bool:
    hooks = (module.__dict__.get("_hf_hook") for module in layer.modules())
    return any(getattr(hook, "offload", False) for hook in hooks) and any(
        p.is_meta and p.requires_grad for p in layer.parameters()
    )


def _expanded(held: nn.Module) -> bool:
    return any(type(each).__name__ == "ExpandedWeight" for each in held._parameters.values())
