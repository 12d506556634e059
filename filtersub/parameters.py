"""How many parameters a setting trains, from layer shapes alone: no weights, no decomposition, no injection.

Every formula equals the ``numel`` of the really injected model (tests/test_parameters.py, over several architectures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import pandas as pd
from torch import nn

from .decomposition import DecompositionConfig
from .errors import FiltersubError
from .kernels import KernelLayout, select_layers
from .models import head_name, load_model

METHODS = ("filter-subspace", "lora", "linear", "full")


@dataclass(frozen=True)
class LayerCount:
    """One layer's share; ``atoms`` is its number of filter atoms (0 for other methods)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    atoms: int
    trainable: int


@dataclass(frozen=True)
class ParameterCount:
    """Parameters that a method trains in a model.

    Attributes
    ----------
    trainable : int, without the head
    head : int, the classification head's own (0 where the model has none)
    total : int, the model's own parameters, head included
    layers : the layers that take part
    """

    model: str
    method: str
    trainable: int
    head: int
    total: int
    layers: tuple[LayerCount, ...] = ()

    @property
    def fraction(self) -> float:
        """Trained parameters without the head, over the model's own."""
        return self.trainable / self.total if self.total else 0.0

    def to_json(self) -> dict[str, Any]:
        layers = [{**asdict(layer), "shape": list(layer.shape)} for layer in self.layers]
        return {**asdict(self), "fraction": self.fraction, "layers": layers}

    def table(self) -> pd.DataFrame:
        """One row a layer: name, kind, shape, atoms, trainable."""
        columns = ["name", "kind", "shape", "atoms", "trainable"]
        return pd.DataFrame([asdict(layer) for layer in self.layers], columns=columns)


def count_parameters(
    model: str | nn.Module,
    method: str = "filter-subspace",
    *,
    recipe: DecompositionConfig | None = None,
    rank: int = 16,
    layers: str | None = None,
    num_classes: int | None = None,
) -> ParameterCount:
    """Count what ``method`` trains.

    Parameters
    ----------
    model : a name for load_model (built on the meta device: no weights, no memory), or a module
    method : "filter-subspace" (atoms of each layer that takes part, by ``recipe``), "lora" (peft's convention, rank
        ``rank``, on every convolution and linear layer that peft can give an adapter), "linear" (the head alone),
        "full"
    layers : regular expression of layer names
    num_classes : classes of a new head

    >>> count_parameters("resnet18").trainable
    1737
    """
    if method not in METHODS:
        raise FiltersubError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    name = model if isinstance(model, str) else type(model).__name__
    module = load_model(model, device="meta", num_classes=num_classes) if isinstance(model, str) else model
    head = head_name(module)
    total = sum(p.numel() for p in module.parameters())
    in_head = 0 if head is None else sum(p.numel() for p in module.get_submodule(head).parameters())
    if method == "linear":
        return ParameterCount(name, method, 0, in_head, total)
    if method == "full":
        return ParameterCount(name, method, total - in_head, in_head, total)
    recipe = recipe or DecompositionConfig()
    block = 1 if method == "lora" else recipe.block  # LoRA takes pointwise layers whole
    block_spatial = recipe.block_spatial and method != "lora"
    exclude = () if head is None else (head,)
    layouts = select_layers(module, layers=layers, block=block, block_spatial=block_spatial, exclude=exclude)
    counted = tuple(
        LayerCount(layout.name, layout.kind, layout.shape, *_share(method, recipe, rank)(layout))
        for layout in layouts.values()
    )
    counted = tuple(layer for layer in counted if layer.trainable)
    return ParameterCount(name, method, sum(layer.trainable for layer in counted), in_head, total, counted)


def count_trained(model: nn.Module, head: str, name: str, method: str, total: int) -> ParameterCount:
    """What requires a gradient in a model as it stands, the head (by its name before injection) apart."""
    trained = {key: p.numel() for key, p in model.named_parameters() if p.requires_grad}
    inside = f".{head}."
    in_head = sum(n for key, n in trained.items() if inside in f".{key}.")
    return ParameterCount(name, method, sum(trained.values()) - in_head, in_head, total)


def _share(method: str, recipe: DecompositionConfig, rank: int) -> Callable[[KernelLayout], tuple[int, int]]:
    """layout -> (atoms, trained parameters)."""
    if method == "lora":
        if rank < 1:
            raise FiltersubError(f"the rank must be a positive integer, got {rank}")
        return lambda layout: (0, _lora_share(layout, rank))
    return lambda layout: (recipe.n_atoms(layout), recipe.n_atoms(layout) * layout.patch_size)


def _lora_share(layout: KernelLayout, rank: int) -> int:
    """peft's LoRA on a convolution: A (r, c_in, *k), ungrouped, and B (c_out, r / groups, 1, ...).

    0 where peft gives no adapter: ranks that the groups do not divide, and transposed convolutions.
    """
    if rank % layout.groups or layout.kind.startswith("conv_transpose"):
        return 0
    outs, ins = layout.channels
    return rank * ins * layout.groups * prod(layout.kernel_size) + outs * rank // layout.groups
