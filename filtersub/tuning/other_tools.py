"""What other tools make of a tuned layer: changes that it could not compute with, and tensors that accelerate keeps
elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..computed_weights import computes_weight
from ..errors import FiltersubError
from .weight_sum import only_torch_runs

_TRAINED = ("filtersub_atoms", "filtersub_expansion", "filtersub_coefficients_update", "filtersub_block_atoms")


def check_unchanged(layer: nn.Module, base: nn.Module) -> list[tuple[nn.Module, Any]]:
    """FiltersubError where the base weight or the atoms of a FilterSubspaceLayer over ``base`` have become something
    else; the layer's offloading hooks.

    The layer reads both without calling the modules that hold them, so that hooks on these (pruning, opacus) would
    never run: a pruned weight would be that of the last call, and gradients of single images would be missing.
    """
    if "weight" not in base._parameters and computes_weight(base):
        raise FiltersubError(
            f"layer {layer.name!r}: the weight of its base layer was pruned, parametrised or quantised after the "
            "adapter was made; do that after merge_and_unload, or before the adapter is made"
        )
    if type(base.weight).__module__.startswith("torchao"):
        raise FiltersubError(
            f"layer {layer.name!r}: its base weight was quantised ({type(base.weight).__name__}) after the adapter was "
            "made; quantise after merge_and_unload"
        )
    hooks = offloading_hooks(layer)
    elsewhere = hooks and any(p.is_meta and p.requires_grad for p in layer.parameters())
    if elsewhere and layer.training and torch.is_grad_enabled():
        raise FiltersubError(
            f"layer {layer.name!r}: accelerate keeps its atoms elsewhere and brings copies for each call, which would "
            "leave them without a gradient; offload the base model before the adapter is made, or run it in eval mode"
        )
    for name in _TRAINED:
        for held in layer._modules[name].modules():
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
    return hooks


def not_filled(name: str, why: str) -> FiltersubError:
    return FiltersubError(f"layer {name!r}: {why}; load the base model's weights first, then make or load the adapter")


def traced(name: str) -> FiltersubError:
    return FiltersubError(
        f"layer {name!r} is symbolically traced (torch.fx, feature extractors) while its adapter is not merged; call "
        "merge_and_unload first, or name FilterSubspaceLayer as a leaf module"
    )


def _expanded(held: nn.Module) -> bool:
    return any(type(each).__name__ == "ExpandedWeight" for each in held._parameters.values())


def offloading_hooks(layer: nn.Module) -> list[tuple[nn.Module, Any]]:
    """(module, hook) of this layer and its submodules where accelerate keeps what they hold elsewhere."""
    return [(m, m._hf_hook) for m in layer.modules() if getattr(m.__dict__.get("_hf_hook"), "offload", False)]


@contextmanager
def onloaded(hooks: list[tuple[nn.Module, Any]]) -> Iterator[None]:
    """What accelerate has offloaded of these modules, in memory.

    The hooks of accelerate load what a submodule holds when that is called; a tuned layer reads the weight of its base
    layer and the atoms beside it without a call. Within, the base layer runs without its hook, which would put the base
    weight back in the place of the summed one.
    """
    hooked = [(m, m.__dict__["forward"]) for m, _ in hooks if "_old_forward" in m.__dict__]
    for module, hook in hooks:
        hook.pre_forward(module)
    for module, _ in hooked:
        module.forward = module._old_forward
    try:
        yield
    finally:
        for module, forward in hooked:
            module.forward = forward
        for module, hook in hooks:
            hook.post_forward(module, None)


def call_with(name: str, layer: nn.Module, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``layer(...)`` with another weight.

    FiltersubError where the layer writes to that weight, as masked convolutions do (``weight.data *= mask``): autograd
    sees no write to ``.data``, and the atoms would get the gradient of a layer without its mask.
    """
    if torch.jit.is_tracing():  # where functional_call refuses
        return _called_in_place(layer, weight, *args, **kwargs)
    looked_at = not (type(layer).__module__.startswith("torch.") or only_torch_runs() or torch.compiler.is_compiling())
    before = weight.detach().clone() if looked_at and not weight.is_meta else None
    output = functional_call(layer, {"weight": weight}, args, kwargs)
    after = weight.detach()
    if before is not None and not (torch.equal(before, after) or torch.allclose(before, after, 0.0, 0.0, True)):  # NaN
        raise FiltersubError(
            f"layer {name!r} ({type(layer).__name__}) changes its weight whenever it runs, so its atoms would get a "
            "wrong gradient; leave it out with exclude_modules"
        )
    return output


def _called_in_place(layer: nn.Module, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    own = layer._parameters["weight"]
    layer._parameters["weight"] = weight
    try:
        return layer(*args, **kwargs)
    finally:
        layer._parameters["weight"] = own
