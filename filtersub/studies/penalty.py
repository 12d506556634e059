"""What does the penalty l do to the decomposition, and to the accuracy after tuning?"""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from ..decomposition import DecompositionConfig
from ..decomposition.layer import warm_up
from ..diagnostics import penalty_path, total_over_layers
from ..experiment import TuneSettings, tune
from ..files import find_folder, make_folder
from ..folder_lock import locks
from ..kernels import select_layers
from ..memory import PeakMemory
from ..models import head_name, load_model
from ..records import Record, describe_environment, read_records
from ..settings import MOST_SEED, check_each, check_kind, check_number, check_switch, check_whole

_ACCURACY_COLUMNS = ["l1_penalty", "seed", "test_accuracy", "trainable", "wall_seconds", "label"]


@locks("out")
def penalty_study(
    out: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    pretrained: bool = True,
    config: DecompositionConfig | None = None,
    penalties: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    seeds: Sequence[int] = (0,),
    layers: str | None = None,
    tuned_penalties: Sequence[float] = (),
    tuning: TuneSettings | None = None,
    tuned_runs: Sequence[str | os.PathLike[str]] = (),
    on_layer: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Decompose a model at every l and seed, tune at a few of them, and write the record of it into ``out``.

    Parameters
    ----------
    penalties, seeds : the grid of decompositions; layers : regular expression of layer names
    tuned_penalties : values of l at which a model is tuned as well, in ``out/tuned/``, by ``tuning``, at each seed
    tuning : settings of these runs; its l1_penalty and seed are replaced
    tuned_runs : folders with finished tuning runs (and their subfolders), read beside those made here

    Raises FiltersubError, before anything is decomposed, for numbers and folders that cannot be.

    Beside record.json: path.csv (diagnostics.penalty_path), total.csv (total_over_layers) and accuracy.csv
    (accuracy_by_penalty of the runs, empty where none is there).
    """
    config, tuning = config or DecompositionConfig(), tuning or TuneSettings(model=model)
    check_kind("config", config, DecompositionConfig)
    check_kind("tuning", tuning, TuneSettings)
    check_switch("pretrained", pretrained)
    penalties = check_each("penalties", penalties, check_number, 0)
    if not isinstance(tuned_penalties, Sequence) or len(tuned_penalties):  # none are tuned where the list is empty
        tuned_penalties = check_each("tuned_penalties", tuned_penalties, check_number, 0)
    seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    tuned_runs = [find_folder(each) for each in tuned_runs]
    folder = make_folder(out)
    loaded = load_model(model, pretrained=pretrained)
    head = head_name(loaded)
    exclude = () if head is None else (head,)
    taking_part = select_layers(loaded, layers=layers, exclude=exclude, **config.kernel_blocks)
    warm_up(taking_part.values(), config)
    began = time.perf_counter()
    with PeakMemory("cpu") as memory:
        asked = {"layers": layers, "exclude": exclude, "on_layer": on_layer}
        paths = [penalty_path(loaded, replace(config, seed=seed), penalties, **asked) for seed in seeds]
        for value, seed in itertools.product(tuned_penalties, seeds):
            settings = replace(tuning, l1_penalty=float(value), seed=seed)
            tune(settings, folder / "tuned" / f"l{value:g}-seed{seed}", quiet=True)
    wall_seconds = time.perf_counter() - began
    path = pd.concat(paths, ignore_index=True)
    total, accuracy = total_over_layers(path), accuracy_by_penalty([folder / "tuned", *tuned_runs])
    parameters = {
        **{"model": model, "pretrained": pretrained, "penalties": list(penalties), "seeds": list(seeds)},
        **{"layers": layers, "tuned_penalties": list(tuned_penalties), **asdict(config)},
    }
    del parameters["l1_penalty"], parameters["seed"]
    sparsest = total.loc[total["density"].idxmin()]
    record = Record(
        kind="penalty",
        label=f"{model}, m={config.atoms}, {len(penalties)} penalties",
        parameters=parameters,
        seed=seeds[0],
        metrics={"lowest_density": float(sparsest["density"]), "its_relative_error": float(sparsest["relative_error"])},
        counts={"layers": int(total["layers"].max()), "total": sum(p.numel() for p in loaded.parameters())},
        cost={"wall_seconds": wall_seconds, "peak_memory_bytes": memory.bytes},
        environment=describe_environment(),
    )
    return record.write(folder, path=path, total=total, accuracy=accuracy)


def accuracy_by_penalty(folders: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Test accuracies of the tuning runs of filter atoms in these folders and below, by their l.

    One row a run: l1_penalty, seed, test_accuracy, trainable (parameters without head), wall_seconds, label; runs of
    other methods, without a penalty, or judged on validation images are left out. Folders that do not exist are empty.
    """
    rows = {}
    for root in folders:
        for folder, record in read_records(root)[0].items() if Path(root).is_dir() else ():
            parameters = record.parameters
            penalised = parameters.get("method") == "filter-subspace" and parameters.get("solver") != "pca"
            if record.kind == "tuning" and penalised and "test_accuracy" in record.metrics:
                rows[folder.resolve()] = {
                    "l1_penalty": float(parameters["l1_penalty"]),
                    "seed": record.seed,
                    "test_accuracy": record.metrics["test_accuracy"],
                    "trainable": record.counts["trainable"],
                    "wall_seconds": record.cost["wall_seconds"],
                    "label": record.label,
                }
    return pd.DataFrame(list(rows.values()), columns=_ACCURACY_COLUMNS)
