"""The smallest m that meets a given error, and the curve it was read from.

No m atoms span more than m dimensions, so the error of the best subspace of m dimensions (Eckart and Young, 1936; from
the d x d second moment) is a lower bound for every dictionary: no m below the bound's needs to be tried. From there on
m is doubled in its distance until one meets the error, and the gap is halved. That takes the error to fall with m, as
a learned dictionary's does up to its local minima.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError
from ..kernels import named_layers
from ..settings import MOST, check_kind, check_whole
from ..sparse_coding.linear import second_moment
from .layer import decomposable_rows, decompose_weight
from .plan import PlannedLayer, check_weights, plan_layers
from .recipe import DecompositionConfig, check_max_error, is_file_of_atoms

if TYPE_CHECKING:
    import pandas as pd

PER = ("layer", "model")


@dataclass(frozen=True)
class AtomChoice:
    """The chosen m.

    Attributes
    ----------
    atoms : layer name to m (a block of p x q channels has m p q atoms); one m for all where it was chosen per model
    curve : what it was read from, tidy, every m up to the largest that was tried: name ("(model)" for the whole), m,
        atoms, relative_error (NaN where it was not tried), best_possible (of any atoms of that number), meets, chosen
    overrides : the settings to hand to decompose_model or the tuner, the given overrides (but for their m) before them
    """

    atoms: dict[str, int]
    curve: pd.DataFrame
    overrides: dict[str, dict[str, Any]]


def choose_atoms(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig | None = None,
    *,
    max_error: float,
    per: str = "layer",
    most: int | None = None,
    layers: str | None = None,
    exclude: tuple[str, ...] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    on_layer: Callable[[int, int, str], None] | None = None,
) -> AtomChoice:
    """The smallest m whose relative error ``||F - alpha x D||_F / ||F||_F`` is at most ``max_error``.

    Parameters
    ----------
    max_error : float, 0 < max_error < 1
    per : "layer", each layer its own m; or "model", one m for all layers that the whole model meets the error with
    most : largest m to try; default four times the kernel's positions (never more atoms than rows)
    model, config, layers, exclude, overrides, on_layer : see decompose_model; ``config.atoms`` means nothing here

    Raises FiltersubError where no m up to ``most`` meets the error; it then says how near it came, and that the
    penalty is in the way where that is so.
    """
    import pandas as pd  # takes half a second, which a first look at a layer need not wait for

    check_max_error(max_error)
    if per not in PER:
        raise FiltersubError(f"the error is met per {' or per '.join(PER)}, got {per!r}")
    if most is not None:
        check_whole("most", most, 1, MOST)
    config = config or DecompositionConfig()
    check_kind("config", config, DecompositionConfig)
    plan = plan_layers(model, replace(config, atoms=1), layers=layers, exclude=exclude, overrides=overrides)
    if any(layer.recipe.code_kind == "random" for layer in plan.values()):
        raise FiltersubError("random coefficients reconstruct nothing, so no m meets an error; use another solver")
    given = next((layer.recipe.init for layer in plan.values() if is_file_of_atoms(layer.recipe.init)), None)
    if given is not None:
        raise FiltersubError(f"the atoms of {given} are as many as they are: start from another init to choose m")
    check_weights(model, plan)
    modules = dict(named_layers(model))
    candidates = {}
    for name, planned in plan.items():
        tails = _tails(decomposable_rows(planned.layout, modules[name]))
        candidates[name] = _Candidate(planned, modules[name], tails, most or 4 * prod(planned.layout.kernel_size))
    groups = {name: {name: one} for name, one in candidates.items()} if per == "layer" else {"(model)": candidates}
    chosen, tables = {}, []
    for index, (title, members) in enumerate(groups.items()):
        tell = None if on_layer is None else partial(on_layer, index, len(groups))
        trial = _Trial(title, members, max_error, tell)
        found = trial.smallest()
        tables.append(trial.table(found))
        chosen.update(dict.fromkeys(members, found))
    settings = {f"^{re.escape(name)}$": {"atoms": m} for name, m in chosen.items()}
    others = {key: {k: v for k, v in value.items() if k != "atoms"} for key, value in (overrides or {}).items()}
    merged = {**{key: value for key, value in others.items() if value}, **settings}
    return AtomChoice(chosen, pd.concat(tables, ignore_index=True), merged)


@dataclass(frozen=True)
class _Candidate:
    planned: PlannedLayer
    weight: nn.Module | Tensor
    tails: Tensor  # (d + 1,): squared error of the best subspace of 0, 1, ..., d dimensions
    most: int

    def recipe(self, m: int) -> DecompositionConfig:
        return replace(self.planned.recipe, atoms=m)

    def best_possible(self, m: int) -> float:
        return float(self.tails[min(self.recipe(m).n_atoms(self.planned.layout), self.tails.numel() - 1)])


class _Trial:
    """The search for one m: of one layer, or of a model's layers together."""

    def __init__(
        self, title: str, members: Mapping[str, _Candidate], max_error: float, tell: Callable[[str], None] | None
    ) -> None:
        self.title, self.members, self.max_error, self.tell = title, members, max_error, tell
        self.norm = sum(float(one.tails[0]) for one in members.values())
        self.most = max(one.most for one in members.values())
        self.tried: dict[int, float] = {}

    def smallest(self) -> int:
        start = next((m for m in range(1, self.most + 1) if self.bound(m) <= self.max_error), self.most)
        low, high, step = start - 1, start, 1  # low is known to fail
        while self.error(high) > self.max_error:
            if high == self.most:
                raise self._unmet()
            low, high, step = high, min(high + step, self.most), 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.error(middle) <= self.max_error else (middle, high)
        return high

    def bound(self, m: int) -> float:
        return self._relative(sum(one.best_possible(m) for one in self.members.values()))

    def error(self, m: int) -> float:
        if m not in self.tried:
            squared = 0.0
            for name, one in self.members.items():
                if self.tell is not None:
                    self.tell(f"{name}, m = {m}")
                squared += decompose_weight(one.planned.layout, one.weight, one.recipe(m)).squared_error
            self.tried[m] = self._relative(squared)
        return self.tried[m]

    def table(self, chosen: int) -> pd.DataFrame:
        import pandas as pd

        rows = [
            {
                "name": self.title,
                "m": m,
                "atoms": sum(one.recipe(m).n_atoms(one.planned.layout) for one in self.members.values()),
                "relative_error": self.tried.get(m, float("nan")),
                "best_possible": self.bound(m),
                "meets": m in self.tried and self.tried[m] <= self.max_error,
                "chosen": m == chosen,
            }
            for m in range(1, max(self.tried) + 1)
        ]
        return pd.DataFrame(rows)

    def _relative(self, squared: float) -> float:
        return (squared / self.norm) ** 0.5 if self.norm > 0 else 0.0

    def _unmet(self) -> FiltersubError:
        whose = "the model" if self.title == "(model)" else f"layer {self.title!r}"
        best = min(self.tried, key=lambda m: self.tried[m])
        recipe = next(iter(self.members.values())).planned.recipe
        cure = (
            f"l1_penalty {recipe.l1_penalty:g} stands in the way, lower it"
            if self.bound(best) <= self.max_error
            else "allow more atoms"
        )
        return FiltersubError(
            f"no m up to {self.most} brings {whose} to a relative error of {self.max_error:g}: m = {best} leaves "
            f"{self.tried[best]:.3g} (best possible {self.bound(best):.3g}); {cure}"
        )


def _tails(rows: Tensor) -> Tensor:
    """(d + 1,): squared error that the best subspace of 0, 1, ..., d dimensions leaves, in float64."""
    values = torch.linalg.eigvalsh(second_moment(rows)).clamp_min(0).cpu()  # rising
    return torch.cat([values.cumsum(0).flip(0), values.new_zeros(1)])
