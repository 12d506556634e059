"""A budget of trained parameters allotted layer by layer, by the gradient that each parameter lets atoms follow.

Every layer has a choice of recipes (m, m_1 and k_c), each with its count and with the energy of the layer's gradient
that atoms can follow under it (see criterion). Of a layer's recipes those are kept that no mixture of a cheaper and a
dearer one beats: the upper convex hull of energy over count. Along it each step to the next recipe gains less per
parameter than the one before. The steps of all layers are then taken from the best gain per parameter downwards, as
long as the budget has room: the greedy rule for the multiple-choice knapsack problem (Sinha and Zoltners, Operations
Research 27(3), 1979). What does not fit is left out, with the later steps of that layer.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import pandas as pd

from ..decomposition import DecompositionConfig
from ..errors import FiltersubError
from ..kernels import KernelLayout, layout_of, tunable_layers
from ..models import head_name
from ..settings import MOST, check_each, check_whole
from . import formulas
from .budget import ATOMS, BLOCKS
from .criterion import GradientEnergy

_SIZES = ("m", "k_c", "m_1")
_SAID = ("atoms", "block", "expansion", "expansion_coefficients", "expansion_layers")


@dataclass(frozen=True)
class Allotment:
    """What every layer gets.

    Attributes
    ----------
    recipes : by name of the layers that are tuned; the others stay frozen
    solver : of all recipes
    trainable : parameters without the head
    score : share of the energy of the kernels' gradient that the atoms can follow, from 0 to 1
    table : one row a layer that could take part: name, m, k_c, m_1 (Int64; missing where the layer is not tuned, has no
        blocks, or is not expanded), trainable, share (of the whole gradient's energy, that its atoms can follow) and
        possible (that of the layer)
    """

    recipes: dict[str, DecompositionConfig]
    solver: str
    trainable: int
    score: float
    table: pd.DataFrame

    @property
    def layers(self) -> str:
        """A regular expression of the layers that are tuned."""
        return f"^({'|'.join(re.escape(name) for name in self.recipes)})$"

    @property
    def base(self) -> DecompositionConfig:
        """The recipe beneath the overrides. Its k_c, the commonest of the layers', tells tuning that blocks take part,
        which have a learning rate of their own; each layer that is tuned has its own m, m_1 and k_c.
        """
        blocks = [recipe.block for recipe in self.recipes.values() if recipe.block is not None]
        return DecompositionConfig(solver=self.solver, block=max(sorted(set(blocks)), key=blocks.count, default=None))

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """The settings of each layer, as the tuner and decompose_model take them."""
        return {
            f"^{re.escape(name)}$": {key: getattr(recipe, key) for key in _SAID}
            for name, recipe in self.recipes.items()
        }


@dataclass(frozen=True)
class _Option:
    recipe: DecompositionConfig | None  # None: the layer stays frozen
    count: int
    energy: float


def allot(
    energy: GradientEnergy,
    budget: int,
    *,
    solver: str = "pca",
    layers: str | None = None,
    atoms: Sequence[int] = ATOMS,
    blocks: Sequence[int] = tuple(block for block in BLOCKS if block is not None),
    expansions: Sequence[int] = (),
) -> Allotment:
    """Allot a budget to the layers of a model.

    Parameters
    ----------
    energy : the criterion, which holds the model and its gradient
    budget : largest number of trained parameters, the head apart
    solver : of all recipes; layers : regular expression of the layers that may take part
    atoms : m to choose from; blocks : k_c of 1x1 kernels and linear layers to choose from, spatial kernels are not
        blocked; expansions : m_1 of per-channel atoms to choose from, beside plain atoms (an alpha_1 that all channels
        share costs parameters and reaches nothing more)

    Raises FiltersubError where no layer fits into the budget, and where there is nothing to choose from.
    """
    if not atoms or not blocks:
        raise FiltersubError(f"{'blocks' if atoms else 'atoms'} is empty; name at least one to choose from")
    check_whole("budget", budget, 1)
    for what, values in (("atoms", atoms), ("blocks", blocks), ("expansions", expansions or (1,))):
        check_each(what, values, check_whole, 1, MOST)
    head = head_name(energy.model)
    chosen = tunable_layers(energy.model, layers=layers, block=1, exclude=() if head is None else (head,))
    hulls = {
        name: _hull([_Option(None, 0, 0.0), *_options(energy, layout, solver, atoms, blocks, expansions)])
        for name, layout in chosen.items()
    }
    taken = _greedy(hulls, budget)
    recipes = {name: option.recipe for name, option in taken.items() if option.recipe is not None}
    if not recipes:
        least = min(hull[1].count for hull in hulls.values() if len(hull) > 1)
        raise FiltersubError(f"no layer trains at most {budget:,} parameters; the smallest step trains {least:,}")
    trainable = sum(option.count for option in taken.values())
    score = sum(option.energy for option in taken.values()) / energy.total
    rows = [_row(name, taken[name], hulls[name][-1].energy, energy.total) for name in chosen]
    return Allotment(recipes, solver, trainable, score, pd.DataFrame(rows).astype(dict.fromkeys(_SIZES, "Int64")))


def _options(
    energy: GradientEnergy,
    layout: KernelLayout,
    solver: str,
    atoms: Sequence[int],
    blocks: Sequence[int],
    expansions: Sequence[int],
) -> Iterable[_Option]:
    sides = (None,) if layout.is_spatial else blocks
    for m, block, m_1 in product(atoms, sides, (None, *expansions)):
        own = {} if m_1 is None else {"expansion_coefficients": "per-channel", "expansion_layers": "all"}
        recipe = DecompositionConfig(atoms=m, block=block, solver=solver, expansion=m_1, **own)
        fitted = layout_of(layout.name, energy.model.get_submodule(layout.name), block)
        yield _Option(recipe, formulas.trained(fitted, recipe), energy.captured(recipe, layout.name))


def _hull(options: list[_Option]) -> list[_Option]:
    """The upper convex hull of energy over count, from the frozen layer on, counts and energies rising."""
    hull: list[_Option] = []
    for option in sorted(options, key=lambda one: (one.count, -one.energy)):
        if hull and option.energy <= hull[-1].energy:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(one: _Option, other: _Option) -> float:
    return (other.energy - one.energy) / (other.count - one.count)


def _greedy(hulls: dict[str, list[_Option]], budget: int) -> dict[str, _Option]:
    steps = [
        (_slope(before, after), name, place)
        for name, hull in hulls.items()
        for place, (before, after) in enumerate(pairwise(hull), start=1)
    ]
    reached, left = dict.fromkeys(hulls, 0), budget
    for _, name, place in sorted(steps, key=lambda step: (-step[0], step[2])):
        price = hulls[name][place].count - hulls[name][place - 1].count
        if reached[name] == place - 1 and price <= left:
            reached[name], left = place, left - price
    return {name: hulls[name][place] for name, place in reached.items()}


def _row(name: str, option: _Option, possible: float, total: float) -> dict[str, object]:
    recipe = option.recipe
    sizes = (None, None, None) if recipe is None else (recipe.atoms, recipe.block, recipe.expansion)
    return {
        "name": name,
        **dict(zip(_SIZES, sizes, strict=True)),
        "trainable": option.count,
        "share": option.energy / total,
        "possible": possible / total,
    }
