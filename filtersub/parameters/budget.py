"""Trained parameters over a grid of (m, m_1, k_c, layers), and the settings that keep within a budget, with reasons."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from numbers import Integral

import pandas as pd
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..errors import FiltersubError
from ..kernels import KernelLayout, tunable_layers
from ..models import head_name
from ..percentages import percentage
from ..settings import check_whole
from . import formulas
from .architectures import load_architecture
from .counting import count_parameters
from .result import stage_of

ATOMS, BLOCKS, EXPANSIONS = (1, 3, 6, 9, 12), (None, 2, 4, 8), (None, 3, 4, 6)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_LAST_STAGES = (1, 2)

#: Score of a setting on the layers of these names, larger is better
Score = Callable[[DecompositionConfig, list[str]], float]


@dataclass(frozen=True)
class Suggestion:
    """A setting within the budget.

    Attributes
    ----------
    recipe : of the decomposition; layers : a regular expression for ``--layers``, None for all; where : that in words
    names : of the layers that take part; trainable : parameters without the head
    score : by the criterion, None where the count alone ranks; why : one sentence
    """

    recipe: DecompositionConfig
    layers: str | None
    where: str
    names: list[str]
    trainable: int
    score: float | None = None
    why: str = ""

    @property
    def n_layers(self) -> int:
        return len(self.names)

    def row(self) -> dict[str, object]:
        recipe = self.recipe
        return {
            "m": recipe.atoms,
            "k_c": recipe.block,
            "spatial_blocks": recipe.block_spatial,
            "m_1": recipe.expansion,
            "per_channel": recipe.expansion_coefficients == "per-channel",
            "where": self.where,
            "layers": self.layers,
            "n_layers": self.n_layers,
            "trainable": self.trainable,
            "score": self.score,
            "why": self.why,
        }


def parse_budget(text: str | int, total: int) -> int:
    """A budget as a number of parameters: 300000, "300k", "1.2M", or a share of the model's ``total`` such as "0.5%".

    >>> parse_budget("300k", 25_557_032), parse_budget("0.5%", 25_557_032)
    (300000, 127785)
    """
    check_whole("total", total, 1)
    found = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kmg%]?)\s*", str(text), re.IGNORECASE)
    if found is None:
        raise FiltersubError(f"the budget {text!r} is no number of parameters (300000, 300k, 1.2M) and no share (0.5%)")
    number, unit = float(re.sub("[_,]", "", found[1])), found[2].lower()
    if number > (100 if unit == "%" else 1e15):
        raise FiltersubError(f"the budget {text!r} is more than any model has; name a share of at most 100%")
    if not unit and number != int(number):
        raise FiltersubError(f"the budget {text!r} is no whole number of parameters")
    budget = int(number / 100 * total) if unit == "%" else int(number * _UNITS[unit])
    if budget < 1:
        raise FiltersubError(f"the budget {text!r} allows no parameter at all; name a positive one")
    return budget


def check_top(top: int) -> int:
    """Raises FiltersubError unless at least one setting is to be shown."""
    if isinstance(top, bool) or not isinstance(top, Integral) or top < 1:
        raise FiltersubError(f"top must be a positive integer, the number of settings to show, got {top!r}")
    return top


def suggest_settings(
    model: nn.Module | Mapping[str, Tensor],
    budget: int,
    *,
    score: Score | None = None,
    solver: str = "lasso",
    layers: str | None = None,
    top: int = 10,
) -> list[Suggestion]:
    """The best setting of each family within the budget, best first.

    A family shares k_c, blocks on spatial kernels, the kind of expansion and the layers. With a ``score`` the larger is
    better and, among equal ones, the cheaper; without, the setting that uses most of the budget is.

    Parameters
    ----------
    model : module (the meta device will do without a score) or the tensors of a bare file of weights
    budget : largest number of trained parameters, the head apart
    score : for example GradientEnergy(...).score
    solver : of the recipes; layers : regular expression that the layers must match anyway
    top : how many to return at most

    Raises FiltersubError where no setting keeps within the budget, naming the smallest possible.
    """
    check_top(top)
    check_whole("budget", budget, 1)
    candidates = list(_candidates(model, solver, layers))
    allowed = [c for c in candidates if c.trainable <= budget]
    if not allowed:
        least = min(candidates, key=lambda c: c.trainable)
        raise FiltersubError(
            f"no setting trains at most {budget:,} parameters; the smallest possible, m = {least.recipe.atoms} on "
            f"{least.where}, trains {least.trainable:,}"
        )
    best: dict[tuple[object, ...], Suggestion] = {}
    for candidate in allowed:
        value = None if score is None else score(candidate.recipe, candidate.names)
        found = replace(candidate, score=value, why=_why(candidate.trainable / budget, value))
        family = _family(candidate.recipe, candidate.layers, scored=score is not None)
        if family not in best or _order(found) < _order(best[family]):
            best[family] = found
    ranked = sorted(best.values(), key=_order)
    return _without_equals(ranked)[:top]


def suggestions_table(found: list[Suggestion]) -> pd.DataFrame:
    """One row a setting, best first: m, k_c, spatial_blocks, m_1, per_channel, where, trainable, score, why, ..."""
    return pd.DataFrame([suggestion.row() for suggestion in found])


def _family(recipe: DecompositionConfig, layers: str | None, *, scored: bool) -> tuple[object, ...]:
    """Shared expansions span what the atoms alone span, so a score cannot tell them apart: they are no family."""
    kind = None if recipe.expansion is None else recipe.expansion_coefficients
    return recipe.block, recipe.block_spatial, None if scored and kind == "shared" else kind, layers


def _why(share: float, score: float | None) -> str:
    if score is None:
        return f"uses {percentage(share, 0)} of the budget; no weights were given, so the count alone ranks"
    return (
        f"its atoms follow {percentage(score, 2)} of the energy of the kernels' gradient, for "
        f"{percentage(share, 0)} of the budget"
    )


def _order(found: Suggestion) -> tuple[float, int]:
    if found.score is None:
        return (-found.trainable, found.n_layers)
    return (-round(found.score, 9), found.trainable)


def _without_equals(ranked: list[Suggestion]) -> list[Suggestion]:
    """Drop a setting where one before it has the same layers and score (the same count, where nothing is scored)."""
    seen, kept = set(), []
    for found in ranked:
        key = (found.layers, found.trainable if found.score is None else round(found.score, 9))
        if key not in seen:
            seen.add(key)
            kept.append(found)
    return kept


def _candidates(model: nn.Module | Mapping[str, Tensor], solver: str, layers: str | None) -> Iterator[Suggestion]:
    head = head_name(model) if isinstance(model, nn.Module) else None
    exclude = () if head is None else (head,)
    tunable_layers(model, layers=layers, block=1, exclude=exclude)  # says why, where there is none
    for block, block_spatial in product(BLOCKS, (False, True)):
        if block is None and block_spatial:
            continue
        try:
            chosen = tunable_layers(model, layers=layers, block=block, block_spatial=block_spatial, exclude=exclude)
        except FiltersubError:
            continue  # no spatial kernels to tune without blocks, or sides that divide no channel count
        if block_spatial and not any(layout.is_spatial for layout in chosen.values()):
            continue
        for pattern, where, layouts in _layer_sets(chosen, layers, in_stages=head is not None):
            alike = Counter(replace(layout, name="") for layout in layouts)
            plain = DecompositionConfig(block=block, block_spatial=block_spatial, solver=solver)
            for recipe in _sizes_of(plain):
                trainable = sum(formulas.trained(layout, recipe) * n for layout, n in alike.items())
                yield Suggestion(recipe, pattern, where, [layout.name for layout in layouts], trainable)


def _sizes_of(plain: DecompositionConfig) -> Iterator[DecompositionConfig]:
    for atoms, m_1 in product(ATOMS, EXPANSIONS):
        for kind in ("shared", "per-channel") if m_1 else ("shared",):
            yield replace(plain, atoms=atoms, expansion=m_1, expansion_coefficients=kind)


def _layer_sets(
    chosen: Mapping[str, KernelLayout], layers: str | None, *, in_stages: bool
) -> Iterator[tuple[str | None, str, list[KernelLayout]]]:
    """(pattern, words, layouts): all of them, and those of a classifier's last stage or two."""
    yield layers, "all layers" if layers is None else f"layers that match {layers}", list(chosen.values())
    stages = list(dict.fromkeys(stage_of(name) for name in chosen))
    for n in _LAST_STAGES:
        if in_stages and layers is None and n < len(stages):
            last = stages[-n:]
            kept = [layout for name, layout in chosen.items() if stage_of(name) in last]
            yield rf"^({'|'.join(re.escape(stage) for stage in last)})(\.|$)", f"only {' and '.join(last)}", kept


def landscape(
    model: str | nn.Module | Mapping[str, Tensor],
    atoms: Sequence[int] = (6, 9, 12),
    expansions: Sequence[int | None] = (None, 3, 4, 5, 6),
    blocks: Sequence[int | None] = (None, 2, 4),
    *,
    block_spatial: bool = False,
    expansion_coefficients: str = "shared",
) -> pd.DataFrame:
    """One row a setting: m, m_1, k_c (0 for none), trainable (without the head), fraction (of the model)."""
    module = load_architecture(model) if isinstance(model, str) else model
    rows, plain = [], DecompositionConfig(expansion_coefficients=expansion_coefficients)
    for m, m_1, k_c in product(atoms, expansions, blocks):
        own = replace(plain, atoms=m, expansion=m_1, block=k_c, block_spatial=block_spatial and k_c is not None)
        found = count_parameters(module, recipe=own)
        rows.append((m, m_1 or 0, k_c or 0, found.trainable, found.fraction))
    return pd.DataFrame(rows, columns=["m", "m_1", "k_c", "trainable", "fraction"])


def lora_ranks(
    model: str | nn.Module | Mapping[str, Tensor],
    ranks: Sequence[int] = (1, 4, 16, 64),
    methods: Sequence[str] = ("lora", "lora-loralib"),
) -> pd.DataFrame:
    """One row a method and rank: method, rank, layers (that have an adapter), trainable, fraction."""
    module = load_architecture(model) if isinstance(model, str) else model
    rows = []
    for method, rank in product(methods, ranks):
        found = count_parameters(module, method, rank=rank)
        rows.append((method, rank, len(found.layers), found.trainable, found.fraction))
    return pd.DataFrame(rows, columns=["method", "rank", "layers", "trainable", "fraction"])
