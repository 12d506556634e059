"""One layer for every kind of weight: it runs its base layer with the summed weight ``F + alpha x dD``.

One convolution instead of the two steps of the paper (they are equal; tests/test_tuning_math.py shows it), with
whatever stride, padding, dilation and groups the base layer has.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, fx, nn

from ..decomposition import DecompositionConfig
from ..engine.conv.packed import Packed
from ..errors import FiltersubError
from ..folded_norms import folding
from ..kernels import KernelLayout, layout_of
from ..progress import tell
from .codes import (
    FORMS,
    TENSORS,
    blocked_atoms,
    frozen_codes,
    held_codes,
    is_reading,
    of_one_source,
    put_codes,
    start_of_expansion,
)
from .config import FilterSubspaceConfig, coding_part
from .other_tools import call_with, check_unchanged, not_filled, offloading_hooks, onloaded, traced
from .sum_plan import BaseWeight, Summand, SumPlan, plan_sum
from .two_steps import run_two_steps, takes_two_steps
from .weight_sum import by_row, can_run, run_summed, summed, without_autocast

PREFIX = "filtersub_"
#: what code for peft's layers asks of every one of them, by the names that layers have for it
_PEFT_NAMES = {"in_features": ("in_channels", "nx"), "out_features": ("out_channels", "nf")}
_SIZES = ("in_channels", "out_channels", "kernel_size", "in_features", "out_features", "nf", "nx")
_SETTINGS = (*_SIZES, "stride", "padding", "output_padding", "dilation", "groups", "padding_mode", "transposed")


class FilterSubspaceLayer(nn.Module, BaseTunerLayer):
    """Wraps a convolution or linear layer. Holds, per adapter (o' x i' rows, m atoms of d entries):

    - ``filtersub_atoms``, trained: dD (m, d), or those of the last level, (m, m_1, ..., d)
    - ``filtersub_expansion``, trained: d-alpha_1, d-alpha_2, ... where the atoms are expanded
    - ``filtersub_coefficients_update``, trained where asked for: d-alpha (o', m, i')
    - ``filtersub_block_atoms``, trained where alpha is blocked: dD_c (m_c, p m q)
    - ``filtersub_coefficients``, frozen: alpha (o', m, i'); or, where it is sparse, ``filtersub_packed_values`` and
      ``filtersub_packed_indices`` (n_rows, s); or ``filtersub_mapping``: V (d, m) with alpha = F V
    - ``filtersub_block_coefficients``, frozen: alpha_c (o' / p, m_c, i' / q), where alpha is blocked
    - ``filtersub_dictionary``, frozen: D (m, d), where d-alpha or dD_c needs it
    - ``filtersub_fingerprint``: of alpha, and of alpha_c after it
    """

    adapter_layer_names = (
        "filtersub_atoms",
        "filtersub_expansion",
        "filtersub_coefficients_update",
        "filtersub_block_atoms",
    )
    other_param_names = (*TENSORS, "layouts", "plans", "block_plans", "recipes", "rounds", "awaited")
    recomputes = True  # whether training makes the summed weight again in its backward pass, or keeps it

    def __init__(self, base_layer: nn.Module, name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.name = name
        self.filtersub_atoms = nn.ParameterDict({})
        self.filtersub_expansion = nn.ModuleDict({})
        self.filtersub_coefficients_update = nn.ParameterDict({})
        self.filtersub_block_atoms = nn.ParameterDict({})
        for form in TENSORS:
            self.add_module(form, BufferDict({}, persistent=form not in FORMS))
        self.layouts: dict[str, KernelLayout] = {}
        self.plans: dict[str, SumPlan] = {}
        self.block_plans: dict[str, tuple[KernelLayout, SumPlan]] = {}  # with the layout of alpha, where it is blocked
        self.recipes: dict[str, DecompositionConfig] = {}
        self.rounds: dict[str, int] = {}  # of dictionary learning
        self.awaited: dict[str, FilterSubspaceConfig] = {}  # adapters whose coefficients are to come with their file
        self.foreign: set[str] = set()  # adapters whose coefficients are not those made of this layer's weight
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        # the base layer's own parameter while another is in its place
        self._before_merge: tuple[nn.Parameter, ...] = ()

    def add_adapter(self, adapter: str, config: FilterSubspaceConfig) -> None:
        """Decompose the base weight by the recipe and start an adapter whose update is zero.

        Adapters of one coding recipe share their coefficients in memory. On the meta device only shapes are made.
        """
        with onloaded(offloading_hooks(self)):
            self._add_adapter(adapter, config)

    def _add_adapter(self, adapter: str, config: FilterSubspaceConfig) -> None:
        base, whole = self.get_base_layer(), config.recipe_of(self.name)
        recipe = coding_part(whole)
        layout = layout_of(self.name, base, **recipe.kernel_blocks)
        if layout is None:
            raise FiltersubError(f"layer {self.name!r} ({type(base).__name__}) cannot be decomposed by this recipe")
        self._freeze_codes(adapter, layout, recipe, config)
        self.layouts[adapter], self.plans[adapter], self.recipes[adapter] = layout, plan_sum(layout), recipe
        n_atoms, sizes = recipe.n_atoms(layout), whole.expansion_of(layout)
        if sizes:
            generator = torch.Generator().manual_seed(whole.seed ^ zlib.crc32(self.name.encode()))
            drawn = start_of_expansion(layout, whole, config.expansion_init, config.init_scale, generator)
            self.filtersub_expansion[adapter] = nn.ParameterList([nn.Parameter(each.to(base.weight)) for each in drawn])
        if recipe.block_coefficients:
            of_alpha, its_recipe = recipe.coefficient_part(layout)
            shape = its_recipe.n_atoms(of_alpha), of_alpha.patch_size
            self.filtersub_block_atoms[adapter] = nn.Parameter(base.weight.new_zeros(shape))
            self.block_plans[adapter] = of_alpha, plan_sum(replace(layout, block=of_alpha.block))
        if config.train_coefficients:
            shape = (layout.n_rows // layout.input_channels, n_atoms, layout.input_channels)
            self.filtersub_coefficients_update[adapter] = nn.Parameter(base.weight.new_zeros(shape))
        self.filtersub_atoms[adapter] = nn.Parameter(base.weight.new_zeros((n_atoms, *sizes, layout.patch_size)))

    def _freeze_codes(
        self, adapter: str, layout: KernelLayout, recipe: DecompositionConfig, config: FilterSubspaceConfig
    ) -> None:
        hold, needs_dictionary = config.holds(recipe), config.train_coefficients or recipe.block_coefficients
        self.foreign.discard(adapter)
        made = (a for a in self.recipes if a != adapter and a not in self.foreign and a not in self.awaited)
        twin = next((a for a in made if self.recipes[a] == recipe and self._holds(a) == hold), None)
        if twin is not None and (not needs_dictionary or twin in self.filtersub_dictionary):
            tensors, self.rounds[adapter] = held_codes(self, twin), 0  # decomposed before
        else:
            weight = self.base_weight()
            if config.awaits_coefficients and adapter not in self.recipes:
                self.awaited[adapter] = config
                weight = weight.detach().to("meta")
            else:
                tell(self.name)
            tensors, self.rounds[adapter] = frozen_codes(layout, weight, recipe, hold=hold)
        if not needs_dictionary:
            tensors.pop("filtersub_dictionary", None)
        put_codes(self, adapter, tensors, saved=config.save_coefficients)

    def make_awaited(self) -> None:
        """Make coefficients that were to come with a file which was not read: the config alone was taken from it."""
        while self.awaited:
            adapter, config = self.awaited.popitem()
            with onloaded(offloading_hooks(self)):
                self._freeze_codes(adapter, self.layouts[adapter], self.recipes[adapter], config)

    def _save_to_state_dict(self, *arguments: Any) -> None:
        if not is_reading():
            self.make_awaited()
        super()._save_to_state_dict(*arguments)

    def _holds(self, adapter: str) -> bool:
        return adapter in self.filtersub_coefficients or adapter in self.filtersub_packed_values

    def _held(self, adapter: str) -> Tensor | Packed:
        if adapter in self.filtersub_coefficients:
            return self.filtersub_coefficients[adapter]
        n_atoms = len(self.filtersub_atoms[adapter])
        return Packed(self.filtersub_packed_values[adapter], self.filtersub_packed_indices[adapter], n_atoms)

    def base_weight(self) -> Tensor:
        """The weight F that adapters belong to, whether or not some are merged into the base layer."""
        return self._before_merge[0] if self._before_merge else self.get_base_layer().weight

    @property
    def weight(self) -> Tensor:
        """The weight that the layer runs with, for code that reads weights and never calls the layer."""
        if self.disable_adapters or self.merged:
            return self.get_base_layer().weight
        return self.summed_weight()

    def __getattr__(self, name: str) -> Any:
        """Sizes and settings of the base layer, for code that looks at layers."""
        if name in _SETTINGS:
            own = next((own for own in _PEFT_NAMES.get(name, ()) if hasattr(self.base_layer, own)), name)
            return getattr(self.base_layer, own)
        return super().__getattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """FiltersubError for what pruning makes of ``weight``, which is a sum here."""
        if name.startswith("weight"):
            raise FiltersubError(
                f"layer {self.name!r}: its weight is a sum, F + alpha x dD, and cannot be pruned or parametrised; do "
                "that after merge_and_unload"
            )
        super().register_parameter(name, param)

    def coefficients(self, adapter: str) -> Tensor:
        """The frozen alpha (n_rows, m) of an adapter; computed where it is not held."""
        self.make_awaited()
        if adapter in self.filtersub_coefficients:
            return by_row(self.filtersub_coefficients[adapter])
        if adapter in self.filtersub_packed_values:
            return self._held(adapter).unpacked()
        mapping = self.filtersub_mapping[adapter]
        return self.layouts[adapter].to_rows(self.base_weight().detach()).to(mapping.dtype) @ mapping

    def atoms_update(self, adapter: str) -> Tensor:
        """dD (m, d), collapsed where it is expanded; (i', m, d) where each input channel has atoms of its own."""
        if adapter not in self.filtersub_expansion:
            return self.filtersub_atoms[adapter]
        return collapse(self.filtersub_atoms[adapter], list(self.filtersub_expansion[adapter]))

    def _terms(self, adapters: list[str]) -> list[Summand]:
        """What the adapters add, those that share coefficients as one summand."""
        self.make_awaited()
        shared: dict[tuple[str, bool], Summand] = {}
        terms = []
        present = [adapter for adapter in adapters if adapter in self.filtersub_atoms]
        for adapter in present:
            plan, held = self.plans[adapter], self._holds(adapter)
            matrix = self.atoms_update(adapter)
            if held:
                source = self._held(adapter)
                matrix = matrix.to(source.values.dtype if isinstance(source, Packed) else source.dtype)
            else:
                mapping = self.filtersub_mapping[adapter]
                source = BaseWeight(self.base_weight(), mapping.dtype)
                matrix = mapping @ matrix.to(mapping.dtype)
            first = next(other for other in present if other is adapter or of_one_source(self, other, adapter))
            key = (first, matrix.ndim == 3)
            shared[key] = Summand(plan, source, shared[key].matrix + matrix if key in shared else matrix)
            if adapter in self.filtersub_block_atoms:
                terms.append(self._block_term(adapter))
            if adapter in self.filtersub_coefficients_update:
                update, dictionary = self.filtersub_coefficients_update[adapter], self.filtersub_dictionary[adapter]
                terms.append(Summand(plan, update.to(dictionary.dtype), dictionary))
        return [*shared.values(), *terms]

    def _block_term(self, adapter: str) -> Summand:
        """``(alpha_c x dD_c) x (D + dD)``, as patches of the kernel in the blocks of alpha_c."""
        of_alpha, plan = self.block_plans[adapter]
        dictionary, codes = self.filtersub_dictionary[adapter], self.filtersub_block_coefficients[adapter]
        atoms = dictionary + self.atoms_update(adapter).to(dictionary.dtype)
        patches = blocked_atoms(self.filtersub_block_atoms[adapter].to(dictionary.dtype), atoms, of_alpha)
        return Summand(plan, codes, patches.to(codes.dtype))

    def _sum(self, adapters: list[str]) -> Tensor:
        weight = self.base_weight()
        with without_autocast(weight):
            return summed(weight, self._terms(adapters))

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``alpha x dD`` in the stored shape and dtype of the base weight; differentiable in what is trained."""
        weight = self.base_weight()
        terms = self._terms([adapter])
        zero = torch.zeros_like(weight, dtype=terms[0].matrix.dtype)
        with without_autocast(weight):
            return summed(zero, terms).to(weight.dtype)

    def summed_weight(self) -> Tensor:
        """The base weight with the update of every active adapter."""
        return self._sum(self.active_adapters)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return self.base_layer(x, *args, **kwargs)
        if isinstance(x, fx.Proxy):
            raise traced(self.name)
        base = self.get_base_layer()
        hooks = offloading_hooks(self) if torch.compiler.is_compiling() else check_unchanged(self, base)
        with onloaded(hooks) if hooks else nullcontext():
            return self._run(x, *args, **kwargs)

    def _run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weight = self.base_weight()
        self.make_awaited()
        is_tensor = isinstance(x, Tensor)  # what is none is told in torch's words
        if not (is_tensor and x.is_meta):
            self._check_filled()
        norm = None
        if folding.active and is_tensor:
            norm = folding.norm_behind(weight, x, getattr(self.get_base_layer(), "stride", 1))
        with without_autocast(weight):
            terms = self._terms(self.active_adapters)
            alone = is_tensor and not args and not kwargs and can_run(self.base_layer, weight, terms, norm)
            total = None if alone else summed(weight, terms)
        if alone and norm is None and terms[0].plan.sliced and takes_two_steps(self.base_layer, x, weight, terms):
            return run_two_steps(self.base_layer, x, weight, terms[0])
        if alone:
            output = run_summed(self.base_layer, x, weight, terms, recompute=self.recomputes, norm=norm)
            return folding.ran(weight, output, norm) if folding.active else output
        return call_with(self.name, self.base_layer, total, x, *args, **kwargs)

    def _check_filled(self) -> None:
        """Before any product: one of a tensor in memory and one on the meta device can be in memory, unfilled."""
        held = [module for name, module in self.named_children() if name != "base_layer"]
        tensors = (tensor for module in held for tensor in (*module.parameters(), *module.buffers()))
        if self.base_weight().is_meta or any(tensor.is_meta for tensor in tensors):
            raise not_filled(self.name, "its weight or its adapter is on the meta device, which holds no numbers")

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Give the base layer a parameter of its own, its weight with the adapters' updates; unmerge gives it the very
        parameter back that it had. Layers that share a parameter are merged each for itself.

        ``safe_merge`` raises ValueError instead where the sum is not finite, and leaves the weight as it was.
        """
        wanted = [a for a in check_adapters_to_merge(self, adapter_names) if a in self.filtersub_atoms]
        if not wanted:
            return
        base = self.get_base_layer()
        check_unchanged(self, base)
        self.make_awaited()
        if not base.weight.is_meta:
            self._check_filled()
        merged = self._sum([*self.merged_adapters, *wanted]).detach()
        if safe_merge and not bool(torch.isfinite(merged).all()):
            names = ", ".join(repr(name) for name in wanted)
            raise ValueError(f"merging {names} into layer {self.name!r} would give NaN or infinite weights")
        if not self._before_merge:
            self._before_merge = (base.weight,)
        base.weight = nn.Parameter(merged, requires_grad=base.weight.requires_grad)
        self.merged_adapters = [*self.merged_adapters, *wanted]

    def unmerge(self) -> None:
        """Give the base layer the very parameter it had before merging."""
        if self._before_merge:
            base, (weight,) = self.get_base_layer(), self._before_merge
            if (weight.device, weight.dtype) != (base.weight.device, base.weight.dtype):  # moved while merged
                weight.data = weight.data.to(base.weight.device, base.weight.dtype)
            base.weight = weight
        self._before_merge = ()
        self.merged_adapters = []

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FilterSubspaceLayer:
        """Moves and casts; fingerprints stay in float64, and adapters that share coefficients go on sharing them."""
        self.make_awaited()
        exact = dict(self.filtersub_fingerprint.items())
        sources = [getattr(self, form) for form in (*FORMS, "filtersub_mapping")]
        before = [dict(held.items()) for held in sources]
        if any(value.is_meta for value in exact.values()) and not fn(torch.empty(0, device="meta")).is_meta:
            raise not_filled(self.name, "its adapter was made on the meta device, so there are no coefficients to move")
        super()._apply(fn, recurse)
        for adapter, value in exact.items():
            moved = self.filtersub_fingerprint[adapter]
            self.filtersub_fingerprint[adapter] = moved if moved.dtype == value.dtype else value.to(moved.device)
        for held, were in zip(sources, before, strict=True):
            first: dict[int, Tensor] = {}
            for adapter, was in were.items():
                held._buffers[adapter] = first.setdefault(id(was), held[adapter])
        return self

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Device alone: coefficients of half-precision weights are float32, fingerprints float64, and stay so."""
        device = device if device is not None else self.get_base_layer().weight.device
        for name in (*self.adapter_layer_names, *self.other_param_names):
            kept = getattr(self, name)
            if isinstance(kept, (nn.ParameterDict, nn.ModuleDict)) and adapter_name in kept:
                if not any(p.device.type == "meta" for p in kept.parameters()):
                    kept[adapter_name] = kept[adapter_name].to(device)
            elif isinstance(kept, BufferDict) and adapter_name in kept and kept[adapter_name].device.type != "meta":
                kept._buffers[adapter_name] = kept[adapter_name].to(device)

    def extra_repr(self) -> str:
        shapes = {name: " x ".join(map(str, atoms.shape)) for name, atoms in self.filtersub_atoms.items()}
        return ", ".join(f"{name}: atoms {shape}" for name, shape in shapes.items())


def collapse(atoms: Tensor, levels: list[Tensor]) -> Tensor:
    """The atoms that expanded atoms stand for: ``D[i] = sum_j alpha_1[i, j] D_1[i, j]``, level by level.

    atoms (m, m_1, ..., m_n, d), levels alpha_1 to alpha_n with alpha_l of shape (m, m_1, ..., m_l); alpha_1 may have a
    leading axis of input channels, which the result, (m, d) else, then has too.
    """
    for coefficients in reversed(levels):
        atoms = (coefficients[..., None, :] @ atoms)[..., 0, :]
    return atoms


def tuned_layers(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, FilterSubspaceLayer]]:
    """(name, layer) of the layers that adapters wrap; without ``remove_duplicate`` in every place that they lie in."""
    for name, module in model.named_modules(remove_duplicate=remove_duplicate):
        if isinstance(module, FilterSubspaceLayer):
            yield name, module
