"""Which adapters can be named how, and models as they are called without torch.compile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch._dynamo import OptimizedModule

from ..errors import FiltersubError
from .config import FilterSubspaceConfig
from .statistics import statistics_of

_TAKEN = {*dir(nn.ParameterDict()), *dir(nn.ModuleDict()), *dir(BufferDict({}))}


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


_TUNERS_WORD = "base_layer"


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
