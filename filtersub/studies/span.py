"""How much of what full tuning learns could filter atoms have learnt?"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ..decomposition import DecompositionConfig, ModelDecomposition, decompose_model
from ..diagnostics import span_table, span_total
from ..errors import FiltersubError, check_name
from ..experiment import TuneSettings, tune
from ..experiment.tuned import load_pair
from ..files import as_path, find_folder, make_folder
from ..folder_lock import locks
from ..kernel_layout import check_block
from ..kernels import named_layers, select_layers
from ..models import head_name
from ..records import Record, describe_environment, read_records
from ..settings import MOST, MOST_SEED, check_each, check_kind, check_whole

_OWN = "per_channel"  # the one setting that is no part of a recipe
#: m, which atoms_grid has, and settings that leave alpha as it is or reach beyond its span
_LEFT_OUT = ("atoms", "expansion", "expansion_coefficients", "expansion_layers", "block_coefficients")
_SAID = ("model", "weights", "pretrained", "data", "n_train", "layers", "epochs", "learning_rate", "image_size")


@locks("out")
def span_study(
    out: str | os.PathLike[str],
    tuning: TuneSettings,
    *,
    atoms_grid: Sequence[int] = (1, 3, 6, 9),
    settings: Sequence[Mapping[str, Any]] = ({"solver": "lasso"}, {"solver": "pca"}, {"solver": "random"}),
    seeds: Sequence[int] = (0, 1),
    tuned_runs: str | os.PathLike[str] | None = None,
    on_setting: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Set the change that full tuning made to each kernel against the span of frozen coefficients, write the record.

    No atom is trained: the share says what atoms could have learnt at most.

    Parameters
    ----------
    tuning : settings of the full tuning; its seed is replaced. Runs lie in ``out/tuned``
    atoms_grid : the m that every setting is tried at
    settings : each a mapping of settings of DecompositionConfig, but for m, expansions and blocks of alpha, and
        ``per_channel``, the m_1 of atoms that every input channel combines in its own way (see diagnostics.reach)
    seeds : of the tuning runs
    tuned_runs : a folder with finished runs of full tuning, itself or below it, that are read instead of training
    on_setting : called with (settings done, settings in all, words) before each setting and m

    Beside record.json: layers.csv (diagnostics.span_table, with setting, seed, run and ``blocks``, as asked for) and
    totals.csv: setting, block, solver, per_channel, m, seed, the columns of diagnostics.span_total, ``covered``: the
    share of the energy of all kernels' changes that lies in layers that take part, and ``share_of_all = share x
    covered``. All kernels are those of convolutions and linear layers but the head.
    Raises FiltersubError for settings that are not known, empty lists, another method than full tuning, and where
    ``tuned_runs`` holds no run of full tuning.
    """
    grid = _grid(settings, atoms_grid)
    check_kind("tuning", tuning, TuneSettings)
    if tuning.method != "full":
        raise FiltersubError(f"the change of full tuning is wanted; set method to 'full', not {tuning.method!r}")
    if tuned_runs is None:
        seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    folder, began = make_folder(out), time.perf_counter()
    runs = _trained(folder / "tuned", tuning, seeds) if tuned_runs is None else _runs_in(tuned_runs)
    layers, totals = [], []
    for number, setting in enumerate(grid, start=1):
        if on_setting is not None:
            on_setting(number, len(grid), f"{setting.label}, m = {setting.recipe.atoms}")
        bases: dict[object, ModelDecomposition] = {}
        for run in runs:
            if run.base_key not in bases:
                part = {"layers": run.settings.layers, "exclude": run.head}
                bases[run.base_key] = decompose_model(run.base, setting.recipe, **part)
            table = span_table(run.base, run.tuned, bases[run.base_key], per_channel=setting.own)
            described = {"setting": setting.label, "seed": run.settings.seed}
            layers.append(table.assign(**described, blocks=setting.block, run=run.name))
            totals.append({**setting.described, **described, **_total(table, run)})
    tables = {"layers": pd.concat(layers, ignore_index=True), "totals": pd.DataFrame(totals)}
    means = tables["totals"].groupby(["setting", "m"])[["share", "expected"]].mean()
    asked, best = runs[0].settings, means.sort_values("share").iloc[-1]
    metrics = {"best_share": float(best["share"]), "its_expected_share": float(best["expected"])}
    parameters = {
        **{name: asked.parameters[name] for name in _SAID},
        **{"atoms_grid": list(atoms_grid), "settings": [dict(each) for each in settings]},
        "seeds": [run.settings.seed for run in runs],
    }
    cost = {"wall_seconds": time.perf_counter() - began}
    label = f"{asked.model} tuned fully on {asked.data}"
    record = Record("span", label, parameters, asked.seed, metrics, {}, cost, describe_environment())
    return record.write(folder, **tables)


@dataclass(frozen=True)
class _Setting:
    recipe: DecompositionConfig
    own: int | None  # m_1 of atoms that each input channel combines in its own way

    @property
    def block(self) -> str:
        sides = check_block(self.recipe.block)
        return "none" if sides is None else "×".join(map(str, sides))

    @property
    def label(self) -> str:
        blocks = "" if self.recipe.block is None else f", {self.block} blocks"
        spatial = " of spatial kernels too" if self.recipe.block_spatial else ""
        return f"{self.recipe.solver}{blocks}{spatial}{'' if self.own is None else f', m₁={self.own} per channel'}"

    @property
    def described(self) -> dict[str, object]:
        return {"block": self.block, "solver": self.recipe.solver, _OWN: self.own or 0, "m": self.recipe.atoms}


@dataclass(frozen=True)
class _Run:
    """A run of full tuning; ``energy`` is that of the change of all its kernels."""

    name: str
    base: nn.Module
    tuned: nn.Module
    settings: TuneSettings

    @property
    def head(self) -> tuple[str, ...]:
        name = head_name(self.base)
        return () if name is None else (name,)

    @property
    def base_key(self) -> tuple[object, ...]:
        """Equal where the base models are: random weights are those of the seed."""
        asked = self.settings
        return asked.model, asked.weights, asked.layers, asked.pretrained or asked.weights or asked.seed

    @property
    def energy(self) -> float:
        before, after = dict(named_layers(self.base)), dict(named_layers(self.tuned))
        names = select_layers(self.base, block=1, exclude=self.head)
        changes = (after[name].weight.detach().double() - before[name].weight.detach().double() for name in names)
        return sum(float(change.square().sum()) for change in changes)


def _grid(settings: Sequence[Mapping[str, Any]], atoms_grid: Sequence[int]) -> list[_Setting]:
    if not isinstance(settings, Sequence) or isinstance(settings, str):
        raise FiltersubError(f"settings must be a list of mappings such as [{{'solver': 'pca'}}], got {settings!r}")
    if not settings:
        raise FiltersubError("settings is empty; name at least one")
    atoms_grid = check_each("atoms_grid", atoms_grid, check_whole, 1, MOST)
    known = tuple(field.name for field in fields(DecompositionConfig) if field.name not in _LEFT_OUT)
    found = []
    for number, setting in enumerate(settings, start=1):
        if not isinstance(setting, Mapping):
            raise FiltersubError(f"setting {number} must map names to values, got {setting!r}")
        for name in setting:
            check_name(f"name in setting {number}:", name, (*known, _OWN))
        rest = {name: value for name, value in setting.items() if name != _OWN}
        own = setting.get(_OWN)
        if own is not None and (isinstance(own, bool) or not isinstance(own, int) or own < 1):
            raise FiltersubError(f"per_channel in setting {number} is m_1, a positive integer, got {own!r}")
        found += [_Setting(DecompositionConfig(atoms=m, **rest), own) for m in atoms_grid]
    return found


def _trained(folder: Path, tuning: TuneSettings, seeds: Sequence[int]) -> list[_Run]:
    runs = []
    for seed in seeds:
        own = folder / f"full-seed{seed}"
        tune(replace(tuning, seed=seed), own, quiet=True)
        runs.append(_Run(own.name, *load_pair(own)))
    return runs


def _runs_in(root: str | os.PathLike[str]) -> list[_Run]:
    with suppress(FiltersubError):  # as a notebook's kernel may start in the checkout or in notebooks/
        root = find_folder(root)
    records = read_records(root)[0] if as_path(root).is_dir() else {}
    full = [f for f, record in records.items() if record.kind == "tuning" and record.parameters["method"] == "full"]
    if not full:
        raise FiltersubError(f"no run of full tuning at {root} or below it; make one by `filtersub tune --method full`")
    return [_Run(folder.name, *load_pair(folder)) for folder in full]


def _total(table: pd.DataFrame, run: _Run) -> dict[str, float]:
    (total,), energy = span_total(table).to_dict("records"), run.energy
    covered = total["energy"] / energy if energy > 0 else float("nan")
    return {**total, "covered": covered, "share_of_all": total["share"] * covered}
