"""Puts a method into a model, and takes the result out again as plain weights."""

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from ..decomposition import DecompositionConfig, plan_layers
from ..decomposition.cache import DecompositionCache, LayerFit, cache_for, using
from ..decomposition.layer import warm_up
from ..errors import FiltersubError
from ..kernels import KernelLayout, check_model, find_module, kernel_matrix, layout_of, select_layers, untunable
from ..parameters import METHODS as COUNTED
from ..parameters import count_parameters
from ..progress import telling
from ..settings import check_kind
from ..sparse_coding.linear import second_moment
from ..tuning import FilterSubspaceConfig, FilterSubspaceLayer
from ..tuning.other_tools import tuners_word_renamed
from ..tuning.targets import as_pattern
from .adapters import adapter_config, add_, merge_added_
from .low_rank import check_lycoris, loralib_shape
from .options import MEANT_FOR, METHODS, MethodOptions, check_method, check_options
from .support import try_adapter


@dataclass(frozen=True)
class Injected:
    """A model that trains what the method says and the head.

    Attributes
    ----------
    model : the model given, changed, or peft's wrapper of it
    total : parameters of the model before
    skipped : why, by the name of each layer that the method cannot take
    cost : where there was a decomposition, decomposition_seconds and decomposition_iterations (rounds of dictionary
        learning, summed over layers). Where layers were read that an earlier call or another run had decomposed, both
        hold what those had taken, decomposition_reused_layers counts them and decomposition_reused_seconds is their
        part of decomposition_seconds
    cache : what the layers were decomposed through, where there was one
    """

    model: nn.Module
    skipped: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    total: int = 0
    cache: DecompositionCache | None = None

    @functools.cached_property
    def fits(self) -> Mapping[str, LayerFit]:
        """By layer, the atoms before tuning and how well they rebuild it; of filter-subspace, where it is known: layers
        that came through ``cache``, and those whose codes are a linear map of the kernels."""
        found = {} if self.cache is None else dict(self.cache.fits)
        for layer in self.model.modules():
            if isinstance(layer, FilterSubspaceLayer) and layer.name not in found:
                for adapter, mapping in layer.filtersub_mapping.items():
                    if not mapping.is_meta:  # a model of shapes alone has no fit
                        found[layer.name] = mapped_fit(layer.layouts[adapter], layer.get_base_layer(), mapping)
        return found

    @property
    def trainable(self) -> int:
        """Parameters that train, those of the head among them."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def inject(
    model: nn.Module,
    method: str,
    head: str | None,
    *,
    recipe: DecompositionConfig | None = None,
    options: MethodOptions | None = None,
    layers: str | None = None,
    save_batch_norm: bool = True,
    keep_in: str | os.PathLike[str] | None = None,
    on_layer: Callable[[int, int, str], None] | None = None,
    **of_atoms: Any,
) -> Injected:
    """Freeze the model but for its head and what ``method`` trains; its output stays what it was.

    Parameters
    ----------
    head : name of the classification head, which is trained whole; None where there is none
    recipe : of the method filter-subspace
    options : of the others
    layers : regular expression of layer names; linear probing and full tuning have no use for it
    save_batch_norm : running statistics are saved with the atoms
    keep_in : folder where each layer's decomposition is kept when it is done, for filter-subspace; a call with the same
        recipe and weights reads what is there. The folder of a cache in use, or
        that of the ablation, is taken instead
    on_layer : called with (layers done, layers in all, name) before each layer is decomposed
    of_atoms : further settings of FilterSubspaceConfig, for filter-subspace: overrides, train_coefficients, ...

    Raises FiltersubError for unknown methods and heads, for settings of another kind, and where
    no layer can take the method, saying why.
    """
    check_method(method)
    check_model(model)
    recipe, options = recipe or DecompositionConfig(), options or MethodOptions()
    check_kind("recipe", recipe, DecompositionConfig)
    check_options(method, options)
    if head is not None:
        find_module(model, head, "head")
    check_lycoris(method)
    total = sum(p.numel() for p in model.parameters())
    if method == "filter-subspace":
        of_atoms = {**of_atoms, "save_batch_norm": save_batch_norm}
        found = _with_atoms(model, head, recipe, layers, of_atoms, keep_in, on_layer)
    elif METHODS[method].by_peft:
        found = _with_adapter(model, method, head, options, layers)
    else:
        found = Injected(model) if method == "full" else _in_place(model, method, head, options, layers)
    return replace(found, total=total)


def _in_place(model: nn.Module, method: str, head: str | None, options: MethodOptions, layers: str | None) -> Injected:
    names = [] if method == "linear" else _counted(model, method, head, options, layers)
    refused = _refused(model, method, names, options, layers) if METHODS[method].adds else {}
    model.requires_grad_(False)
    for each in _heads(head):
        model.get_submodule(each).requires_grad_(True)
    if METHODS[method].adds:
        add_(model, method, [name for name in names if name not in refused], options)
    else:
        for layer in map(model.get_submodule, names):
            (layer.bias if method == "bitfit" else layer).requires_grad_(True)
    return Injected(model, skipped=refused)


def merged(model: nn.Module, method: str) -> nn.Module:
    """The model with plain weights that compute what was trained; with its adapter where that cannot be merged."""
    merge_added_(model)
    if isinstance(model, PeftModel):
        try:
            with tuners_word_renamed(model.get_base_model()):
                return model.merge_and_unload(safe_merge=True)
        except (ValueError, NotImplementedError, RuntimeError):
            return model
    return model


def _heads(head: str | None) -> list[str]:
    return [] if head is None else [head]


def _with_atoms(
    model: nn.Module,
    head: str | None,
    recipe: DecompositionConfig,
    layers: str | None,
    of_atoms: dict[str, Any],
    keep_in: str | os.PathLike[str] | None,
    on_layer: Callable[[int, int, str], None] | None,
) -> Injected:
    overrides = of_atoms.get("overrides")
    chosen = plan_layers(model, recipe, layers=layers, exclude=_heads(head), overrides=overrides, one_override=True)
    reasons = {name: untunable(model.get_submodule(name)) for name in chosen}
    alike = _like_head(model, head)
    skipped = {name: reason for name, reason in reasons.items() if reason is not None} | _left_out(chosen, alike)
    config = FilterSubspaceConfig(
        target_modules=as_pattern([name for name in chosen if name not in skipped] or list(chosen)),
        modules_to_save=_heads(head) or None,
        **of_atoms,
        **asdict(recipe),
    )
    tunable = [layer for name, layer in chosen.items() if name not in skipped]
    for own in dict.fromkeys(layer.recipe for layer in tunable):
        warm_up([layer.layout for layer in tunable if layer.recipe == own], own)
    cache = cache_for(keep_in)
    began = time.perf_counter()
    with using(cache), telling(on_layer, len(tunable)):
        tuned = _injected(model, config, alike)
    seconds = time.perf_counter() - began
    rounds = sum(sum(m.rounds.values()) for m in tuned.modules() if isinstance(m, FilterSubspaceLayer))
    cost = {"decomposition_seconds": seconds, "decomposition_iterations": rounds}
    if cache is not None and cache.reused:
        cost["decomposition_seconds"] += cache.reused_seconds
        cost |= {"decomposition_reused_seconds": cache.reused_seconds, "decomposition_reused_layers": cache.reused}
    return Injected(tuned, skipped, cost, cache=cache)


def _like_head(model: nn.Module, head: str | None) -> list[str]:
    """Modules that peft, which goes by the endings of names, would take for the head and train whole."""
    if head is None:
        return []
    return [name for name, _ in model.named_modules() if name.endswith(head) and not f"{name}.".startswith(f"{head}.")]


def _left_out(names: Iterable[str], alike: list[str]) -> dict[str, str]:
    reason = "its name ends in that of the head, which is how peft knows modules that are trained whole"
    return {name: reason for name in names if any(f"{name}.".startswith(f"{each}.") for each in alike)}


def _injected(model: nn.Module, config: PeftConfig, alike: list[str]) -> PeftModel:
    """peft's wrapper of the model, the modules that it takes for the head frozen again."""
    tuned = get_peft_model(model, config)
    for name in alike:
        tuned.get_base_model().get_submodule(name).requires_grad_(False)
    return tuned


def _counted(model: nn.Module, method: str, head: str | None, options: MethodOptions, layers: str | None) -> list[str]:
    """Names of the layers that the method trains something of."""
    names = [layer.name for layer in count_parameters(model, method, options=options, layers=layers).layers]
    if not names:
        raise FiltersubError(f"{method} tunes {COUNTED[method]}, and the model has none{_by(layers)}")
    if method in MEANT_FOR["rank"]:
        layouts = select_layers(model, layers=layers, block=1, exclude=_heads(head))
        shape = loralib_shape if method == "lora-loralib" else lambda layout: layout.shape
        check_rank(options.rank, {name: shape(layouts[name]) for name in names})
    return names


def _with_adapter(
    model: nn.Module, method: str, head: str | None, options: MethodOptions, layers: str | None
) -> Injected:
    layouts = select_layers(model, layers=layers, block=1, exclude=_heads(head))
    if method in MEANT_FOR["rank"]:
        check_rank(options.rank, {name: layout.shape for name, layout in layouts.items()})
    alike = _like_head(model, head)
    refused = _refused(model, method, list(layouts), options, layers, _left_out(layouts, alike))
    chosen = [name for name in layouts if name not in refused]
    config = adapter_config(method, options, target_modules=as_pattern(chosen), modules_to_save=_heads(head) or None)
    return Injected(_injected(model, config, alike), skipped=refused)


def _refused(
    model: nn.Module,
    method: str,
    names: list[str],
    options: MethodOptions,
    layers: str | None,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Why, by the name of each layer that the method cannot take, ``known`` ones first; a kind is tried once."""
    tried: dict[str, str | None] = {}
    refused = dict(known or {})
    for name in names:
        if name in refused:
            continue
        layer = model.get_submodule(name)
        layout = layout_of(name, layer, block=1)
        if layout is None:  # a normalisation layer, of which SSF takes any
            continue
        signature = f"{type(layer)} {layout.shape} {layer.extra_repr()}"
        if signature not in tried:
            tried[signature] = try_adapter(method, layer, options).refusal
        reason = tried[signature]
        if reason is not None:
            refused[name] = reason
    if len(refused) == len(names):
        name, reason = next(iter(refused.items()))
        raise FiltersubError(f"{method} takes no layer of the model{_by(layers)}; {name} for one: {reason}")
    return refused


def _by(layers: str | None) -> str:
    return "" if layers is None else f" by the pattern {layers!r}"


def check_rank(rank: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """FiltersubError where no layer, of weights (out, in, ...) by name, has that rank.

    Its factors would only be larger than the weights that they update.
    """
    full = {name: min(shape[0], prod(shape[1:])) for name, shape in shapes.items()}
    if full and rank > max(full.values()):
        name = max(full, key=lambda each: full[each])
        raise FiltersubError(
            f"rank {rank} is more than any layer has: {full[name]} at most, that of {name}; take a smaller one"
        )


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
