"""What other tools make of tuned layers and models: names that they cannot hold, changes that a layer could not compute
with, tensors that accelerate keeps elsewhere, modules that torch.compile wraps.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.func import functional_call

from ..computed_weights import computes_weight
from ..errors import FiltersubError
from .config import FilterSubspaceConfig
from .statistics import statistics_of
from .weight_sum import only_torch_runs

_TAKEN = {*dir(nn.ParameterDict()), *dir(nn.ModuleDict()), *dir(BufferDict({}))}
_TUNERS_WORD = "base_layer"


def check_adapter_name(name: str, prefix: str, model: nn.Module, config: FilterSubspaceConfig) -> None:
    """FiltersubError where torch, peft or a file system cannot hold an adapter of this name on this model."""
    problem = None
    if not isinstance(name, str) or not name.strip():
        problem = "it must be a text that is not empty"
    elif "." in name:
        problem = "torch's names of parameters end at a dot"
    elif any(mark and mark in name for mark in ("/", "\\", os.sep, os.altsep, "\0")):
        problem = "the adapter is saved in a folder of its name"
    elif prefix in name:
        problem = f"{prefix!r} is what the parameters of every adapter begin with"
    elif name in _TAKEN:
        problem = "torch's containers have an attribute of this name"
    elif name in set(_saved_beside(model, config)):
        problem = "a module or tensor that is saved with the adapter is called so, and peft would cut the name short"
    if problem is not None:
        raise FiltersubError(f"an adapter cannot be named {name!r}: {problem}; choose another name, like 'my-task'")


def _saved_beside(model: nn.Module, config: FilterSubspaceConfig) -> Iterator[str]:
    """The last two words of the names of tensors that are saved with the atoms."""
    wanted = tuple(config.modules_to_save or ())
    for name, module in model.named_modules():
        if name in wanted or name.endswith(tuple(f".{each}" for each in wanted)):
            saved = module.original_module if isinstance(module, AuxiliaryTrainingWrapper) else module
            for tensor in saved.state_dict():
                yield from f"{name}.{tensor}".split(".")[-2:]
    if config.save_batch_norm:
        for tensor in statistics_of(dict(model.named_buffers())):
            yield from tensor.split(".")[-2:]


def named_plainly(model: nn.Module) -> nn.Module:
    """The model with every module that torch.compile wraps called by its own name again, still compiled.

    torch.compile puts a module into another one, so that the names of all its parts change. ``nn.Module.compile``, in
    whose way the modules are compiled here, does not.
    """
    for module in model.modules():
        for name, child in module._modules.items():
            if isinstance(child, OptimizedModule):
                module._modules[name] = _plain(child)
    return _plain(model) if isinstance(model, OptimizedModule) else model


@contextmanager
def tuners_word_renamed(model: nn.Module) -> Iterator[None]:
    """Within it no module of the base model has a submodule called ``base_layer``.

    peft takes each module with that attribute for an adapter and merges it. timm's DLA calls its first layers so.
    """
    wrappers = [m for m in model.modules() if isinstance(m, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
    inside = {id(part) for wrapper in wrappers for part in wrapper.modules()}
    others = [m for m in model.modules() if _TUNERS_WORD in m._modules and id(m) not in inside]
    for module in others:
        _rename(module, _TUNERS_WORD, f"{_TUNERS_WORD} of the model")
    try:
        yield
    finally:
        for module in others:
            _rename(module, f"{_TUNERS_WORD} of the model", _TUNERS_WORD)


def _rename(module: nn.Module, old: str, new: str) -> None:
    """In its place among the submodules, whose order is that of the state dictionary."""
    module._modules = {new if name == old else name: child for name, child in module._modules.items()}


def _plain(compiled: OptimizedModule) -> nn.Module:
    inner = compiled._orig_mod
    inner._compiled_call_impl = compiled.dynamo_ctx(inner._call_impl)
    return inner


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
    for name in layer.adapter_layer_names:
        for held in layer._modules[name].modules():
            if held._forward_pre_hooks:
                raise FiltersubError(
                    f"layer {layer.name!r}: its atoms were pruned or hooked, but they are read without a call; prune "
                    "after merge_and_unload"
                )
            expanded = any(type(each).__name__ == "ExpandedWeight" for each in held._parameters.values())
            if "ft_compute_sample_grad" in held.__dict__ or expanded:
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
