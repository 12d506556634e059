"""A network as a list of its layers, from which a count needs neither torch nor the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..decomposition.recipe import (
    DecompositionConfig,
    check_blocks_used,
    check_matched,
    check_no_conflict,
    check_overrides,
    recipe_of,
)
from ..errors import FiltersubError
from ..files import read_json
from ..kernel_layout import KernelLayout, blocked_layout
from ..settings import select_fields
from . import formulas
from .baselines import FEATURE_METHODS, LAYER_RULES, BaselineOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

_FOLDER = Path(__file__).resolve().parent / "outlines"
_HEAD = "classifier"  # of the embedded network


@dataclass(frozen=True)
class Outline:
    """What a count needs of a network with a linear head."""

    layers: tuple[KernelLayout, ...]  # all but the head, without blocks, in the network's order
    total: int  # parameters of the network, those of the head among them
    head: int  # parameters of the head
    classes: int  # outputs of the head
    biases: tuple[int, ...]  # parameters in the bias of each of the layers, 0 where it has none
    features: tuple[tuple[str, tuple[int, ...]], ...] = ()  # what FEATURE_METHODS train in each other part, by name

    def to_json(self) -> dict[str, Any]:
        named = zip(self.layers, self.biases, strict=True)
        layers = [[each.name, each.kind, list(each.shape), each.groups, bias] for each, bias in named]
        numbers = {"total": self.total, "head": self.head, "classes": self.classes}
        return {**numbers, "layers": layers, "features": [[name, *shares] for name, shares in self.features]}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Outline:
        rows = read["layers"]
        layers = tuple(KernelLayout(name, kind, tuple(shape), groups) for name, kind, shape, groups, _ in rows)
        biases = tuple(bias for *_, bias in rows)
        features = tuple((name, tuple(shares)) for name, *shares in read["features"])
        return cls(layers, read["total"], read["head"], read["classes"], biases, features)

    def count(self, settings: Mapping[str, Any], classes: int | None = None) -> dict[str, int] | None:
        """Trained parameters without the head, those of the head, and all: as count_parameters counts them.

        Parameters
        ----------
        settings : ``method``, and as far as they are given ``layers`` (a regular expression), ``overrides``, the
            settings of the recipe and of the baselines
        classes : of a new head; None keeps the network's own

        None for settings that count_parameters may refuse, which says why. Raises FiltersubError for settings that are
        wrong in themselves.
        """
        trainable = self._trainable(settings)
        if trainable is None:
            return None
        head = self.head if classes is None else self.head // self.classes * classes
        return {"trainable": trainable, "head": head, "total": self.total - self.head + head}

    def _trainable(self, settings: Mapping[str, Any]) -> int | None:
        trains_alpha, recipe = bool(settings.get("train_coefficients")), select_fields(settings, DecompositionConfig)
        method = "filter-subspace" if trains_alpha else settings["method"]
        if method in ("linear", "full"):
            return 0 if method == "linear" else self.total - self.head
        try:
            pattern = re.compile(settings.get("layers") or "")
        except (re.error, TypeError):
            return None
        if method in FEATURE_METHODS:
            place, named = FEATURE_METHODS.index(method), zip(self.layers, self.biases, strict=True)
            of_layers = ((layout.name, (bias, 0, 2 * layout.channels[0])) for layout, bias in named)
            return sum(shares[place] for name, shares in (*of_layers, *self.features) if pattern.search(name))
        chosen = [layout for layout in self.layers if pattern.search(layout.name)]
        if method == "filter-subspace":
            return _atoms(chosen, recipe, settings.get("overrides"), trains_alpha)
        if method not in LAYER_RULES or not chosen:
            return None
        options = select_fields(settings, BaselineOptions)
        return sum(LAYER_RULES[method](layout, None, options) for layout in chosen)


def outline_of(model: nn.Module) -> Outline | None:
    """The outline of a network; None where a count needs more than that: layers that cannot be tuned, weights with
    parameters beside them (gains of standardised convolutions), another head than a linear layer, or no head."""
    from torch import nn

    from ..kernels import named_layers, select_layers, untunable
    from ..models import head_name
    from .counting import feature_shares

    name, parameters = head_name(model), list(model.parameters())
    head = None if name is None else model.get_submodule(name)
    if not isinstance(head, nn.Linear) or any(isinstance(p, nn.UninitializedParameter) for p in parameters):
        return None
    modules = dict(named_layers(model))
    layers = tuple(
        KernelLayout(layout.name, layout.kind, layout.shape, layout.groups)
        for layout in select_layers(model, block=1, exclude=(name,)).values()
    )
    biases = {}
    for layout in layers:
        own = {key: p.numel() for key, p in modules[layout.name].named_parameters(recurse=False)}
        if untunable(modules[layout.name]) is not None or not set(own) <= {"weight", "bias"}:
            return None
        biases[layout.name] = own.get("bias", 0)
    found = [{layer.name: layer.trainable for layer in feature_shares(model, m, None, name)} for m in FEATURE_METHODS]
    shares = {part: tuple(of_method.get(part, 0) for of_method in found) for part in found[0] if part not in biases}
    features = tuple((part, numbers) for part, numbers in shares.items() if any(numbers))
    total, in_head = sum(p.numel() for p in parameters), sum(p.numel() for p in head.parameters())
    return Outline(layers, total, in_head, head.out_features, tuple(biases.values()), features)


def packaged_outline(model: str) -> Outline | None:
    """The outline that comes with this package, of the embedded network; None for other names."""
    path = _FOLDER / f"{model}.json"
    return Outline.from_json(read_json(path)) if model.isidentifier() and path.is_file() else None


def packaged_kernels(model: str) -> nn.Module | None:
    """The layers alone of the embedded network, by their names and with their trained weights, the head too.

    They are made without timm, whose import takes longer than decomposing them. None for other names, and where the
    file of weights is missing or another: load_model says why.
    """
    from torch import device, nn

    from ..packaged_models import PACKAGED

    outline = packaged_outline(model)
    if outline is None:
        return None
    try:
        tensors = PACKAGED[model].in_file()
    except FiltersubError:
        return None
    weights = [tensor for tensor in tensors.values() if tensor.ndim > 1]  # in the network's order, the head's last
    if [tuple(weight.shape) for weight in weights[:-1]] != [layer.shape for layer in outline.layers]:
        return None
    network = nn.Module()
    with device("meta"):
        for layer, weight in zip(outline.layers, weights[:-1], strict=True):
            outputs, inputs, *sides = layer.shape
            made = nn.Conv2d(inputs * layer.groups, outputs, tuple(sides), groups=layer.groups, bias=False)
            _add(network, layer.name, made, weight)
        classes, features = weights[-1].shape
        _add(network, _HEAD, nn.Linear(features, classes, bias=False), weights[-1])
    return network.eval()


def _add(network: nn.Module, name: str, layer: nn.Module, weight: Tensor) -> None:
    """Add a layer under a name with dots, with this weight."""
    from torch import nn

    layer.weight = nn.Parameter(weight.contiguous())
    *parents, own = name.split(".")
    for parent in parents:
        if parent not in dict(network.named_children()):
            network.add_module(parent, nn.Module())
        network = network.get_submodule(parent)
    network.add_module(own, layer)


def _atoms(
    chosen: list[KernelLayout],
    config: DecompositionConfig,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    trains_alpha: bool,
) -> int | None:
    """What plan_layers takes of these layers; None where it takes nothing, or refuses the settings."""
    if not chosen:
        return None
    planned = {}
    try:
        checked = check_overrides(overrides)
        check_matched(checked, [layout.name for layout in chosen], "the override of")
        for layout in chosen:
            check_no_conflict(layout.name, checked)
            recipe = recipe_of(layout.name, config, checked)
            blocked = blocked_layout(layout, **recipe.kernel_blocks)
            if blocked is not None:
                planned[layout.name] = (blocked, recipe)
        if not planned:
            return None
        check_matched(checked, planned, "the override of")
        check_blocks_used(planned.values())
    except FiltersubError:
        return None
    if config.nonzeros is not None and not any(recipe.code_kind == "support" for _, recipe in planned.values()):
        return None
    of_alpha = sum(layout.n_rows * recipe.n_atoms(layout) for layout, recipe in planned.values()) if trains_alpha else 0
    return of_alpha + sum(formulas.trained(layout, recipe) for layout, recipe in planned.values())
