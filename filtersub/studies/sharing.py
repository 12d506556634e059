"""What is lost when the layers of a network share one dictionary for each shape of kernel?"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from torch import nn

from ..decomposition import ModelDecomposition, decompose_model, sharing_table
from ..errors import FiltersubError
from ..experiment import TuneSettings, tune
from ..experiment.saved_weights import ADAPTER_FOLDER
from ..files import make_folder
from ..folder_lock import locks
from ..models import head_name, load_model
from ..records import Record, describe_environment
from ..settings import MOST, MOST_SEED, check_each, check_kind, check_switch, check_whole
from ..tuning import FilterSubspaceLayer
from ..tuning.weight_sum import by_input

_ADAPTER = "default"


@locks("out")
def sharing_study(
    out: str | os.PathLike[str],
    tuning: TuneSettings,
    *,
    atoms_grid: Sequence[int] = (3, 6, 9),
    seeds: Sequence[int] = (0, 1),
    tuned: bool = True,
    on_run: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Decompose a model with a dictionary a layer and with shared ones, tune on both codes, write the record.

    Tuning runs lie in ``out/tuned/``; finished ones are read back. Those on shared codes keep no adapter.

    Parameters
    ----------
    tuning : model, data and recipe; its ``atoms`` is the m of the tuning runs, whose updates of the atoms stay each
        layer's own: what is shared is the dictionary D behind the frozen codes
    atoms_grid : the m at which errors are compared
    seeds : of decompositions and tuning runs
    tuned : whether models are tuned as well, which needs the data set

    Beside record.json: layers.csv (decomposition.sharing_table, with m and seed), totals.csv (m, seed, sharing,
    dictionaries, atom_numbers: stored in all dictionaries, relative_error over all kernels) and accuracy.csv (sharing,
    seed, test_accuracy, trainable; empty where none was tuned).
    Raises FiltersubError for settings that tune no filter atoms, and where seeds or atoms_grid is no list of numbers.
    """
    check_kind("tuning", tuning, TuneSettings)
    if tuning.method != "filter-subspace" or tuning.learning_rate == "choose":
        raise FiltersubError(
            "dictionaries are those of filter atoms: set method to filter-subspace, and a learning rate"
        )
    if tuning.validation:
        raise FiltersubError("validation is true; accuracies are those of test images here, so set it to false")
    atoms_grid = check_each("atoms_grid", atoms_grid, check_whole, 1, MOST)
    seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    check_switch("tuned", tuned)
    folder, began = make_folder(out), time.perf_counter()
    layers, totals, accuracy = [], [], []
    runs = [(atoms, seed) for seed in seeds for atoms in dict.fromkeys([*atoms_grid, *([tuning.recipe.atoms] * tuned)])]
    for number, (atoms, seed) in enumerate(runs, start=1):
        if on_run is not None:
            on_run(number, len(runs), f"m = {atoms}, seed {seed}")
        settings = replace(tuning, atoms=atoms, seed=seed)
        each, shared = (_decomposed(settings, sharing) for sharing in (False, True))
        layers.append(sharing_table(shared, each).assign(m=atoms, seed=seed))
        named = {"m": atoms, "seed": seed}
        totals += [{**named, **_total(found, kind)} for found, kind in ((each, "own"), (shared, "shared"))]
        if tuned and atoms == tuning.recipe.atoms:
            for kind, found in (("own", None), ("shared", shared)):
                own = folder / "tuned" / f"{kind}-seed{seed}"
                accuracy.append({"sharing": kind, "seed": seed, **_tuned(settings, found, own)})
    tables = {"layers": pd.concat(layers, ignore_index=True), "totals": pd.DataFrame(totals)}
    tables["accuracy"] = pd.DataFrame(accuracy, columns=["sharing", "seed", "test_accuracy", "trainable"])
    metrics = {
        f"relative_error_{kind}": float(group["relative_error"].mean())
        for kind, group in tables["totals"][tables["totals"]["m"] == max(atoms_grid)].groupby("sharing")
    }
    parameters = {**tuning.parameters, "atoms_grid": list(atoms_grid), "seeds": list(seeds), "tuned": tuned}
    del parameters["seed"]
    cost = {"wall_seconds": time.perf_counter() - began}
    label = f"{tuning.model}, one dictionary for each shape of kernel"
    record = Record("sharing", label, parameters, seeds[0], metrics, {}, cost, describe_environment())
    return record.write(folder, **tables)


def _decomposed(settings: TuneSettings, shared: bool) -> ModelDecomposition:
    model = load_model(settings.model, pretrained=settings.pretrained, weights=settings.weights)
    head = head_name(model)
    exclude = () if head is None else (head,)
    return decompose_model(model, settings.recipe, layers=settings.layers, exclude=exclude, shared=shared)


def _total(found: ModelDecomposition, kind: str) -> dict[str, object]:
    """Each dictionary counted once, whoever shares it."""
    sizes = {layer.dictionary or name: layer.atoms.numel() for name, layer in found.layers.items()}
    numbers = {"dictionaries": len(sizes), "atom_numbers": sum(sizes.values())}
    return {"sharing": kind, **numbers, "relative_error": found.relative_error}


def _tuned(settings: TuneSettings, shared: ModelDecomposition | None, folder: Path) -> dict[str, float]:
    """Accuracy after tuning on each layer's own codes, or on those of the shared dictionaries."""
    change = None if shared is None else partial(_use_codes_, found=shared)
    record = tune(settings, folder, quiet=True, change=change)
    if shared is not None:  # an adapter is saved without codes, and would be loaded onto each layer's own
        shutil.rmtree(folder / ADAPTER_FOLDER, ignore_errors=True)
    return {"test_accuracy": record.metrics["test_accuracy"], "trainable": record.counts["trainable"]}


def _use_codes_(model: nn.Module, found: ModelDecomposition) -> None:
    """Freeze each layer's coefficients at those of ``found``; the updates, zero at the start, are untouched."""
    for layer in (module for module in model.modules() if isinstance(module, FilterSubspaceLayer)):
        name = layer.name
        codes, layout = found.layers[name].coefficients, layer.layouts[_ADAPTER]
        if codes.shape[1] != layer.filtersub_atoms[_ADAPTER].shape[0]:
            raise FiltersubError(f"layer {name!r} has fewer rows than shared atoms; leave it out by layers")
        for held in (layer.filtersub_packed_values, layer.filtersub_packed_indices, layer.filtersub_mapping):
            if _ADAPTER in held:
                del held[_ADAPTER]
        source = by_input(codes, layout).contiguous().to(layer.get_base_layer().weight)
        layer.filtersub_coefficients.register_buffer(_ADAPTER, source, persistent=False)
