"""Does a budget of trained parameters that is allotted layer by layer beat the best setting for all layers?"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import FiltersubError
from ..experiment import TuneSettings, tune
from ..files import make_folder
from ..parameters import allot, parse_budget, suggest_settings
from ..ranking import gradient_energy
from ..records import Record, describe_environment
from ..settings import MOST, MOST_SEED, check_each, check_kind, check_number, check_positive, check_whole
from .words import BY_LAYER, FOR_ALL, allotment_pairs

_ANY = 10**12  # parameters: the size of the model is not known yet where budgets are looked at
_SHAPE = ("atoms", "block", "block_spatial", "expansion", "expansion_coefficients")


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
    check_kind("tuning", tuning, TuneSettings)
    if tuning.method != "filter-subspace":
        raise FiltersubError(f"budgets of atoms are allotted; set method to 'filter-subspace', not {tuning.method!r}")
    check_each("budgets", budgets, _check_budget)
    seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    check_whole("top", top, 1, MOST)
    if not isinstance(expansions, Sequence) or len(expansions):  # plain atoms alone where the list is empty
        expansions = check_each("expansions", expansions, check_whole, 1, MOST)
    if learning_rate is not None:
        check_number("learning_rate", learning_rate)
        check_positive("learning_rate", learning_rate)
    check_whole("n_images", n_images, 1)
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
        run = {"budget": one.budget, "kind": one.kind, "setting": one.setting, "score": one.score, "seed": seed}
        run |= {"trainable": record.counts["trainable"], "test_accuracy": record.metrics["test_accuracy"]}
        runs.append(run)
    table = pd.DataFrame(runs)
    last = allotment_pairs(table).iloc[-1]
    metrics = {"by_layer": float(last["by_layer"]), "for_all_layers": float(last["for_all_layers"])}
    said = {"budgets": list(budgets), "seeds": list(seeds), "top": top, "expansions": list(expansions)}
    parameters = {**tuning.parameters, **said, "n_images": n_images, "learning_rate": learning_rate}
    for name in ("seed", "atoms", "block", "layers"):
        del parameters[name]
    cost = {"wall_seconds": time.perf_counter() - began}
    label = f"{tuning.model} on {tuning.data}, budgets allotted by layer"
    record = Record("allotment", label, parameters, seeds[0], metrics, {}, cost, describe_environment())
    return record.write(folder, runs=table, layers=layers)


def _check_budget(_: str, text: object) -> None:
    parse_budget(text, _ANY)


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
            suggest_settings(energy.model, budget, score=energy.score, solver=tuning.recipe.solver, top=top), start=1
        ):
            settings = replace(tuning, layers=found.layers, **{name: getattr(found.recipe, name) for name in _SHAPE})
            words = settings.label + ("" if found.layers is None else f", {found.where}")
            chosen.append(_Choice(budget, FOR_ALL, f"all{number}", words, found.score, settings))
        ours = allot(energy, budget, solver=tuning.recipe.solver, expansions=expansions)
        settings = replace(tuning, block=ours.base.block, layers=ours.layers, overrides=ours.overrides)
        words = f"allotted by layer, {len(ours.recipes)} of {len(ours.table)} layers"
        chosen.append(_Choice(budget, BY_LAYER, "layers", words, ours.score, settings))
        tables.append(ours.table.assign(budget=budget))
    return chosen, pd.concat(tables, ignore_index=True)
