"""One layer for every kind of weight: it runs its base layer with the summed weight ``F + alpha x dD``.

One convolution instead of the two steps of the paper (they are equal; tests/test_tuning.py shows it), with whatever
stride, padding, dilation and groups the base layer has.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from torch.func import functional_call

from ..decomposition import DecompositionConfig, decompose_weight
from ..errors import FiltersubError
from ..kernels import KernelLayout, layout_of

PREFIX = "filtersub_"


class FilterSubspaceLayer(nn.Module, BaseTunerLayer):
    """Wraps a convolution or linear layer; holds per adapter dD (n_atoms, d), trained, and alpha (n_rows, n_atoms)."""

    adapter_layer_names = ("filtersub_atoms",)
    other_param_names = ("filtersub_coefficients", "filtersub_fingerprint", "layouts", "recipes")

    def __init__(self, base_layer: nn.Module, name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.name = name
        self.filtersub_atoms = nn.ParameterDict({})
        self.filtersub_coefficients = BufferDict({})
        self.filtersub_fingerprint = BufferDict({}, persistent=True)
        self.layouts: dict[str, KernelLayout] = {}
        self.recipes: dict[str, DecompositionConfig] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._weight_before_merge: Tensor | None = None

    def add_adapter(self, adapter: str, recipe: DecompositionConfig, *, save_coefficients: bool) -> None:
        """Decompose the base weight by the recipe and start an adapter at dD = 0.

        Two adapters of one recipe share their coefficients in memory. On the meta device only shapes are made.
        """
        base = self.get_base_layer()
        layout = layout_of(self.name, base, recipe.block, recipe.block_spatial)
        if layout is None:
            raise FiltersubError(f"layer {self.name!r} ({type(base).__name__}) cannot be decomposed by this recipe")
        coefficients = self._coefficients_of(recipe, layout)
        shape = (coefficients.shape[1], layout.patch_size)
        zeros = torch.zeros(shape, dtype=base.weight.dtype, device=base.weight.device)
        self.layouts[adapter], self.recipes[adapter] = layout, recipe
        self.filtersub_coefficients.register_buffer(adapter, coefficients, persistent=save_coefficients)
        self.filtersub_fingerprint[adapter] = fingerprint(coefficients)
        self.filtersub_atoms[adapter] = nn.Parameter(zeros)

    def _coefficients_of(self, recipe: DecompositionConfig, layout: KernelLayout) -> Tensor:
        for adapter, known in self.recipes.items():
            if known == recipe:
                return self.filtersub_coefficients[adapter]
        weight = self.get_base_layer().weight
        if self._weight_before_merge is not None:
            weight = self._weight_before_merge
        if weight.device.type == "meta":
            dtype = torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
            return torch.empty(layout.n_rows, recipe.n_atoms(layout), dtype=dtype, device="meta")
        return decompose_weight(layout, weight, recipe).coefficients

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``alpha x dD`` in the stored shape and dtype of the base weight; differentiable in dD."""
        coefficients, atoms = self.filtersub_coefficients[adapter], self.filtersub_atoms[adapter]
        weight = self.get_base_layer().weight
        with torch.autocast(weight.device.type, enabled=False):
            rows = coefficients @ atoms.to(coefficients.dtype)
        return self.layouts[adapter].to_weight(rows).to(weight.dtype)

    def summed_weight(self) -> Tensor:
        """The base weight with the update of every active adapter."""
        weight = self.get_base_layer().weight
        for adapter in self.active_adapters:
            if adapter in self.filtersub_atoms:
                weight = weight + self.get_delta_weight(adapter)
        return weight

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return self.base_layer(x, *args, **kwargs)
        return functional_call(self.base_layer, {"weight": self.summed_weight()}, (x, *args), kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the adapters' updates to the base weight, keeping a copy of it so that unmerge is exact.

        ``safe_merge`` raises ValueError instead where the sum is not finite, and leaves the weight as it was.
        """
        weight = self.get_base_layer().weight
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.filtersub_atoms:
                continue
            merged = weight.data + self.get_delta_weight(adapter).detach()
            if safe_merge and not bool(torch.isfinite(merged).all()):
                raise ValueError(f"merging {adapter!r} into layer {self.name!r} would give NaN or infinite weights")
            if self._weight_before_merge is None:
                self._weight_before_merge = weight.data
            weight.data = merged
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Give the base layer the very weight it had before merging."""
        if self._weight_before_merge is not None:
            self.get_base_layer().weight.data = self._weight_before_merge
        self._weight_before_merge = None
        self.merged_adapters.clear()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}: {p.shape[0]} atoms of {p.shape[1]}" for name, p in self.filtersub_atoms.items())


def fingerprint(coefficients: Tensor) -> Tensor:
    """(n_atoms,) float64: the coefficients summed over rows with fixed weights, which neither order nor sign survives.

    The weights are cosines of the row number, so they are the same everywhere. Compare with same_fingerprint.
    """
    if coefficients.device.type == "meta":
        return torch.empty(coefficients.shape[1], dtype=torch.float64, device="meta")
    numbers = torch.arange(coefficients.shape[0], dtype=torch.float64, device=coefficients.device)
    weights = torch.cos(numbers * math.pi * (math.sqrt(5) - 1) + 0.5)
    return weights @ coefficients.double()


def same_fingerprint(one: Tensor, other: Tensor, relative: float = 1e-3) -> bool:
    """Whether two fingerprints agree up to rounding that differs between machines, but not between base weights."""
    if one.shape != other.shape:
        return False
    one, other = one.double().cpu(), other.double().cpu()
    return bool((one - other).norm() <= relative * torch.maximum(one.norm(), other.norm()))
