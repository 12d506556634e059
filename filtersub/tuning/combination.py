"""A weighted combination of adapters as a new adapter: exact, since an update is linear in its atoms."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError
from .codes import check_same_codes, share_codes
from .config import FilterSubspaceConfig, coding_part
from .layer import tuned_layers
from .targets import as_pattern


def combined_config(
    configs: dict[str, FilterSubspaceConfig], weights: Sequence[float], targets: list[str]
) -> FilterSubspaceConfig:
    """The config of ``sum of weight x adapter``; ``targets`` are the layers of all of them together.

    Raises FiltersubError unless the adapters have one recipe and kind of expansion (m_1 may differ: it adds up).
    """
    if not configs or len(weights) != len(configs):
        raise FiltersubError(f"{len(configs)} distinct adapters need as many weights, got {len(weights)}")
    (first_name, first), *others = configs.items()
    for name, other in others:
        refused, also = f"adapters {first_name!r} and {name!r} cannot be combined", _alike(other)
        for field, mine in _alike(first).items():
            if mine != also[field]:
                raise FiltersubError(f"{refused}: {field} is {mine!r} and {also[field]!r}")
        sizes = [each.recipe.expansion_sizes for each in (first, other)]
        if (first.expansion is None) != (other.expansion is None) or sizes[0][1:] != sizes[1][1:]:
            both = f"{first.expansion!r} and {other.expansion!r}"
            raise FiltersubError(f"{refused}: expansion is {both}; only m_1 may differ")
    blocked = [name for name, config in configs.items() if config.block_coefficients]
    if blocked or any(settings.get("block_coefficients") for settings in (first.overrides or {}).values()):
        raise FiltersubError(
            f"adapters {list(configs)} cannot be combined: block_coefficients trains two factors of each weight, and "
            "the sum of products is no product; make them active together instead (set_adapter)"
        )
    config = copy.deepcopy(first)
    config.target_modules, config.exclude_modules = as_pattern(targets), None
    if first.expansion is not None:
        sizes = [each.recipe.expansion_sizes for each in configs.values()]
        config.expansion = (sum(size[0] for size in sizes), *sizes[0][1:])
    for settings in (config.overrides or {}).values():
        if settings.get("expansion") is not None:  # equal in all of them
            first_size, *rest = replace(first.recipe, expansion=settings["expansion"]).expansion_sizes
            settings["expansion"] = (len(configs) * first_size, *rest)
    return config


def _alike(config: FilterSubspaceConfig) -> dict[str, Any]:
    """What adapters that are combined must have in common: the recipe but for m_1, and what is held and trained."""
    return {
        **asdict(coding_part(config.recipe)),
        "holding coefficients": config.holds(config.recipe),
        "train_coefficients": config.train_coefficients,
        "expansion_coefficients": config.expansion_coefficients,
        "expansion_layers": config.expansion_layers,
        "overrides": config.overrides,
    }


def check_combined(model: nn.Module, adapters: Sequence[str]) -> None:
    """FiltersubError where the adapters came with different coefficients for a layer."""
    for _, layer in tuned_layers(model):
        present = [name for name in adapters if name in layer.filtersub_atoms]
        if present:
            check_same_codes(layer, present)


def fill(model: nn.Module, name: str, adapters: Sequence[str], weights: Sequence[float]) -> None:
    """Write the combination into the adapter ``name`` of every layer.

    Plain atoms add up. Expanded ones lie side by side, d-alpha_1 of each times its weight, which is the same sum.
    """
    for _, layer in tuned_layers(model):
        if name not in layer.filtersub_atoms:
            continue
        present = [(a, w) for a, w in zip(adapters, weights, strict=True) if a in layer.filtersub_atoms]
        share_codes(layer, name, present[0][0])
        with torch.no_grad():
            if name in layer.filtersub_coefficients_update:
                layer.filtersub_coefficients_update[name].copy_(
                    sum(w * layer.filtersub_coefficients_update[a] for a, w in present)
                )
            if name not in layer.filtersub_expansion:
                layer.filtersub_atoms[name].copy_(sum(w * layer.filtersub_atoms[a] for a, w in present))
                continue
            _side_by_side(layer.filtersub_atoms[name], [layer.filtersub_atoms[a] for a, _ in present], 1)
            n_levels = len(layer.filtersub_expansion[name])
            for level in range(n_levels):
                into = layer.filtersub_expansion[name][level]
                parts = [layer.filtersub_expansion[a][level] for a, _ in present]
                if level == 0:
                    parts = [w * part for part, (_, w) in zip(parts, present, strict=True)]
                axis = into.ndim - 1 - level  # that of m_1
                _side_by_side(into, parts, axis)


def _side_by_side(into: Tensor, parts: list[Tensor], axis: int) -> None:
    """Parts joined along an axis, zeros where they do not fill it."""
    joined = torch.cat(parts, axis)
    into.zero_()
    into.narrow(axis, 0, joined.shape[axis]).copy_(joined)
