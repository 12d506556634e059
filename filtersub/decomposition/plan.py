"""Which layers a decomposition takes, each with its layout, its recipe, and the dictionary that it shares."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor, nn

from ..errors import FiltersubError
from ..kernel_layout import KernelLayout, compile_pattern
from ..kernels import layout_of, named_layers, select_layers
from ..settings import check_kind
from ..sparse_coding import SOLVERS
from .layer import decomposable_rows, largest_patch, read_start
from .recipe import (
    DecompositionConfig,
    check_blocks_used,
    check_matched,
    check_no_conflict,
    check_overrides,
    is_file_of_atoms,
    recipe_of,
)


@dataclass(frozen=True)
class PlannedLayer:
    """A layer that takes part. ``dictionary`` names the one that it shares; None where its atoms are its own."""

    layout: KernelLayout
    recipe: DecompositionConfig
    dictionary: str | None = None


def plan_layers(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig,
    *,
    layers: str | None = None,
    exclude: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    shared: bool | Sequence[str] = False,
    one_override: bool = False,
) -> dict[str, PlannedLayer]:
    """The layers that take part, in the model's order; arguments as in decompose_model.

    ``one_override`` refuses two overrides that give one layer different values, instead of taking the last one.

    Raises FiltersubError where nothing takes part, on patterns of overrides or sharing that no layer matches, and on
    blocks that would be 1 in every layer.
    """
    check_kind("config", config, DecompositionConfig)
    checked, modules = check_overrides(overrides), dict(named_layers(model))
    candidates = select_layers(model, layers=layers, block=1, exclude=exclude)
    check_matched(checked, candidates, "the override of")
    planned = {}
    for name in candidates:
        if one_override:
            check_no_conflict(name, checked)
        recipe = recipe_of(name, config, checked)
        layout = layout_of(name, modules[name], **recipe.kernel_blocks)
        if layout is not None:
            planned[name] = PlannedLayer(layout, recipe)
    if not planned:  # says why
        select_layers(model, layers=layers, exclude=exclude, **config.kernel_blocks)
    check_matched(checked, planned, "the override of")
    check_blocks_used((layer.layout, layer.recipe) for layer in planned.values())
    if config.nonzeros is not None and not any(layer.recipe.code_kind == "support" for layer in planned.values()):
        pursuits = ", ".join(name for name, kind in SOLVERS.items() if kind == "support")
        raise FiltersubError(
            f"{config.nonzeros} nonzeros a row are for pursuits ({pursuits}); solver {config.solver!r} does not take "
            "them"
        )
    return _with_groups(planned, shared)


def check_weights(model: nn.Module | Mapping[str, Tensor], plan: Mapping[str, PlannedLayer]) -> None:
    """Look at every weight before any time is spent on one.

    Raises FiltersubError on NaN, infinity and weights without numbers (naming the layer), on more atoms than any layer
    has rows, on a penalty so large that every coefficient of every layer would be zero (saying from which value on that
    is so), and on a file of initial atoms that does not fit.
    """
    modules = dict(named_layers(model))
    largest, all_silent = 0.0, True
    for name, layer in plan.items():
        rows = decomposable_rows(layer.layout, modules[name])
        if rows.is_meta:
            raise FiltersubError(f"layer {name!r} has a shape but no numbers (meta device); load its weights first")
        if layer.recipe.code_kind != "penalty":
            all_silent = False
        elif all_silent:
            patch = largest_patch(rows)
            largest = max(largest, patch)
            all_silent = patch == 0 or patch <= layer.recipe.l1_penalty
    if all_silent and largest > 0:
        raise FiltersubError(
            f"every coefficient would be zero: so it is from l1_penalty {largest:.4g} on (the largest norm of a "
            "patch); choose a smaller one"
        )
    for name, layer in plan.items():
        _check_start(name, layer, plan)
    asked = {name: layer.recipe.atoms * prod(layer.layout.block) for name, layer in plan.items()}
    most = max(plan, key=lambda name: plan[name].layout.n_rows)
    if all(asked[name] > layer.layout.n_rows and layer.recipe.limit_atoms for name, layer in plan.items()) and not any(
        layer.dictionary for layer in plan.values()
    ):
        raise FiltersubError(
            f"{asked[most]} atoms are more than any layer has rows: {most!r} has most, {plan[most].layout.n_rows}; "
            "as many atoms as rows reconstruct exactly"
        )


def _check_start(name: str, layer: PlannedLayer, plan: Mapping[str, PlannedLayer]) -> None:
    if not is_file_of_atoms(layer.recipe.init) or not layer.recipe.learns_atoms:
        return
    n_atoms = layer.recipe.distinct_atoms(layer.layout)
    if layer.dictionary is not None:
        rows = sum(other.layout.n_rows for other in plan.values() if other.dictionary == layer.dictionary)
        n_atoms = min(layer.recipe.atoms * prod(layer.layout.block), rows)
    read_start(layer.recipe.init, name, (n_atoms, layer.layout.patch_size), dictionary=layer.dictionary)


def _with_groups(planned: dict[str, PlannedLayer], shared: bool | Sequence[str]) -> dict[str, PlannedLayer]:
    """Names the dictionaries: layers of one patch shape and one recipe within a pattern share one."""
    if shared is False:
        return planned
    if not isinstance(shared, (bool, str, list, tuple)):
        raise FiltersubError(f"shared must be true, a pattern of layer names or a list of them, got {shared!r}")
    patterns = ("",) if shared is True else (shared,) if isinstance(shared, str) else tuple(shared)
    check_matched(patterns, planned, "the sharing pattern")
    members: dict[tuple[object, ...], list[str]] = {}
    for name, layer in planned.items():
        matching = [pattern for pattern in patterns if compile_pattern(pattern).search(name)]
        if len(matching) > 1:
            raise FiltersubError(
                f"layer {name!r} matches two sharing patterns, {matching[0]!r} and {matching[1]!r}; it can share one "
                "dictionary only"
            )
        if matching and layer.recipe.code_kind == "random":
            raise FiltersubError(
                f"layer {name!r} has random coefficients, whose atoms are its own; share dictionaries of another solver"
            )
        if matching and not layer.recipe.limit_atoms:
            raise FiltersubError(
                f"limit_atoms is false for layer {name!r}, and repeated atoms cannot be shared; leave one of them out"
            )
        if matching:
            members.setdefault((matching[0], layer.layout.patch_shape, layer.recipe), []).append(name)
    grouped, titles = dict(planned), set()
    for (pattern, patch_shape, _), names in members.items():
        if len(names) == 1:
            continue
        title = "×".join(map(str, patch_shape)) + (f" of {pattern}" if pattern else "")
        while title in titles:
            title += "′"
        titles.add(title)
        grouped.update({name: replace(planned[name], dictionary=title) for name in names})
    return grouped
