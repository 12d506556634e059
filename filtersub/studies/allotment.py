"""Does a budget of trained parameters that is allotted layer by layer beat the best setting for all layers?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from ..errors import FiltersubError
from ..experiment import TuneSettings, tune
from ..files import make_folder
from ..intervals import difference, holm
from ..parameters import allot, parse_budget, suggest_settings
from ..ranking import gradient_energy
from ..records import Record, describe_environment

_BY_LAYER, _FOR_ALL = "by layer", "for all layers"


def allotment_study(
    out: str | os.PathLike[str],
    tuning: TuneSettings,
    *,
    budgets: Sequence[int | str] = (3000, 10_000),
    seeds: Sequence[int] = (0, 1, 2),
    top: int = 2,
    expansions: Sequence[int] = (),
    learning_rate: float | None = None,
    n_images: int = 200,
    on_run: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Allot each budget by the gradient (parameters.allot), tune so, and beside it by the best settings for all layers.

    Parameters
    ----------
    tuning : model, data, solver and recipe of training; its m, m_1, k_c, layers, overrides, learning rate and seed are
        replaced
    budgets : numbers of trained parameters beside the head, or texts as parameters.parse_budget takes
    seeds : of all runs, which lie in ``out/tuned``
    top : how many settings for all layers are tuned at each budget, the first that parameters.suggest_settings ranks
        by the same gradient; the most accurate of them is what the allotment is set against
    expansions : m_1 of per-channel atoms that the allotment may choose, beside plain atoms
    learning_rate : of all runs; None takes the usual one of each setting
    n_images : training images that the gradient is taken on

    Beside record.json: runs.csv (budget, kind, "by layer" or "for all layers", setting, trainable, score, seed,
    test_accuracy) and layers.csv (budget, and Allotment.table).
    Raises FiltersubError for empty lists, another method than filter-subspace, and budgets below the smallest setting.
    """
    if tuning.method != "filter-subspace":
        raise FiltersubError(f"budgets of atoms are allotted; set method to 'filter-subspace', not {tuning.method!r}")
    if not budgets or not seeds or top < 1:
        raise FiltersubError(f"budgets, seeds and top must name at least one, got {budgets!r}, {seeds!r} and {top}")
    folder, began = make_folder(out), time.perf_counter()
    plain = {"layers": None, "overrides": None, "expansion": None, "expansion_coefficients": "shared"}
    tuning = replace(tuning, **plain)
    chosen, layers = _choices(tuning, budgets, top, expansions, n_images)
    runs = []
    jobs = [(one, seed) for one in chosen for seed in seeds]
    for number, (one, seed) in enumerate(jobs, start=1):
        if on_run is not None:
            on_run(number, len(jobs), f"{one.budget:,} parameters, {one.setting}, seed {seed}")
        home = folder / "tuned" / f"{one.budget}-{one.name}-seed{seed}"
        record = tune(replace(one.tuning, learning_rate=learning_rate, seed=seed), home, quiet=True)
        if record.counts["trainable"] > one.budget:
            raise FiltersubError(f"{one.setting} trains {record.counts['trainable']:,}, more than {one.budget:,}")
        named = {"budget": one.budget, "kind": one.kind, "setting": one.setting, "score": one.score, "seed": seed}
        runs.append(
            {**named, "trainable": record.counts["trainable"], "test_accuracy": record.metrics["test_accuracy"]}
        )
    table = pd.DataFrame(runs)
    last = allotment_pairs(table).iloc[-1]
    metrics = {"by_layer": float(last["by_layer"]), "for_all_layers": float(last["for_all_layers"])}
    said = {"budgets": list(budgets), "seeds": list(seeds), "top": top, "expansions": list(expansions)}
    parameters = {**tuning.parameters, **said, "n_images": n_images}
    parameters["learning_rate"] = learning_rate
    for name in ("seed", "atoms", "block", "layers"):
        del parameters[name]
    cost = {"wall_seconds": time.perf_counter() - began}
    label = f"{tuning.model} on {tuning.data}, budgets allotted by layer"
    record = Record("allotment", label, parameters, seeds[0], metrics, {}, cost, describe_environment())
    return record.write(folder, runs=table, layers=layers)


def allotment_pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a budget: the allotment by layer against the most accurate setting for all layers.

    Columns: budget, by_layer and for_all_layers (mean test accuracies over seeds), trainable_by_layer and
    trainable_for_all, setting (that for all layers), difference with low, high and p_value (Welch's t test over seeds,
    corrected by Holm for the number of budgets; NaN for one seed), seeds. The setting for all layers is chosen by its
    test accuracy, which favours it.
    """
    rows = []
    for budget, group in runs.groupby("budget", sort=False):
        ours, others = group[group["kind"] == _BY_LAYER], group[group["kind"] == _FOR_ALL]
        best = others.groupby("setting")["test_accuracy"].mean().idxmax()
        theirs = others[others["setting"] == best]
        gap = difference(ours["test_accuracy"].tolist(), theirs["test_accuracy"].tolist())
        row = {"budget": budget, "setting": best, "seeds": ours["seed"].nunique()}
        row |= {"by_layer": ours["test_accuracy"].mean(), "for_all_layers": theirs["test_accuracy"].mean()}
        row |= {"trainable_by_layer": ours["trainable"].iloc[0], "trainable_for_all": theirs["trainable"].iloc[0]}
        row |= {"difference": gap.difference, "low": gap.low, "high": gap.high, "p_value": gap.p_value}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p_value=holm(table["p_value"].tolist()))


def allotment_groups(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs as plots.equal_accuracies takes them: a group a budget, a row a setting, the most accurate first."""
    rows = []
    for number, (budget, group) in enumerate(runs.groupby("budget", sort=False), start=1):
        for (kind, setting), found in group.groupby(["kind", "setting"], sort=False):
            row = {"group": number, "task": "", "method_label": setting, "trainable": budget}
            row |= {"family": "spatial and block atoms" if kind == _BY_LAYER else "spatial atoms"}
            accuracies = found["test_accuracy"]
            rows.append({**row, "test_accuracy": accuracies.mean(), "by_seed": accuracies.tolist()})
    table = pd.DataFrame(rows)
    return table.sort_values(["group", "test_accuracy"], ascending=[True, False], ignore_index=True)


def allotment_sentence(pairs: pd.DataFrame) -> str:
    """Budget by budget, how accurate the allotment by layer is and whether the difference is beyond noise."""
    parts = []
    for row in pairs.itertuples():
        told = (
            f"at most {row.budget:,} trained parameters, allotted by layer ({row.trainable_by_layer:,}): "
            f"{row.by_layer:.1%}, against {row.for_all_layers:.1%} for {row.setting} ({row.trainable_for_all:,}), a "
            f"difference of {row.difference:+.1%}"
        )
        if pd.isna(row.p_value):
            parts.append(f"{told} (one seed, so whether that is noise is not known)")
            continue
        beyond = "beyond noise" if row.p_value < 0.05 else "not beyond the noise of these seeds"
        parts.append(f"{told} ({row.low:+.1%} to {row.high:+.1%}, {row.seeds} seeds, p = {row.p_value:.2g}, {beyond})")
    return f"With {'; with '.join(parts)}."


@dataclass(frozen=True)
class _Choice:
    budget: int
    kind: str
    name: str  # of its folder
    setting: str
    score: float
    tuning: TuneSettings


def _choices(
    tuning: TuneSettings, budgets: Sequence[int | str], top: int, expansions: Sequence[int], n_images: int
) -> tuple[list[_Choice], pd.DataFrame]:
    energy = gradient_energy(
        tuning.model, tuning.data, weights=tuning.weights, image_size=tuning.image_size, n_images=n_images
    )
    total = sum(parameter.numel() for parameter in energy.model.parameters())
    chosen, tables = [], []
    for text in budgets:
        budget = parse_budget(text, total)
        for number, found in enumerate(
            suggest_settings(energy.model, budget, score=energy.score, solver=tuning.solver, top=top), start=1
        ):
            settings = replace(tuning, layers=found.layers, **_shape(asdict(found.recipe)))
            words = settings.label + ("" if found.layers is None else f", {found.where}")
            chosen.append(_Choice(budget, _FOR_ALL, f"all{number}", words, found.score, settings))
        ours = allot(energy, budget, solver=tuning.solver, expansions=expansions)
        settings = replace(tuning, block=ours.base.block, layers=ours.layers, overrides=ours.overrides)
        words = f"allotted by layer, {len(ours.recipes)} of {len(ours.table)} layers"
        chosen.append(_Choice(budget, _BY_LAYER, "layers", words, ours.score, settings))
        tables.append(ours.table.assign(budget=budget))
    return chosen, pd.concat(tables, ignore_index=True)


def _shape(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: recipe[name] for name in ("atoms", "block", "block_spatial", "expansion", "expansion_coefficients")}
