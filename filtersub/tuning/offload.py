"""Layers whose tensors accelerate keeps elsewhere: there for as long as they are needed, and run without its hook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def onloaded(layer: nn.Module) -> Iterator[None]:
    """Everything that accelerate has offloaded of this layer and its submodules, in memory.

    The hooks of accelerate load what a submodule holds when that is called; a tuned layer reads the weight of its base
    layer and the atoms beside it without a call. Within, the base layer runs without its hook, which would put the base
    weight back in the place of the summed one.
    """
    hooks = [(m, m._hf_hook) for m in layer.modules() if getattr(m.__dict__.get("_hf_hook"), "offload", False)]
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
