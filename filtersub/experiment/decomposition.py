"""One decomposition from settings to record."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict

from ..decomposition import Decomposition, DecompositionConfig, decompose_model
from ..decomposition.cache import shared_cache
from ..diagnostics import convergence_table, error_curve, layer_table
from ..files import make_folder
from ..folder_lock import locks
from ..kernels import named_layers
from ..memory import PeakMemory
from ..models import head_name, load_model
from ..processes import keep_to_quota
from ..records import Record, describe_environment
from ..settings import MOST, check_each, check_kind, check_whole


@locks("out")
def decompose_run(
    out: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    weights: str | None = None,
    atoms_grid: Sequence[int] = (3, 6, 9),
    config: DecompositionConfig | None = None,
    layers: str | None = None,
) -> Record:
    """Decompose a model by the recipe, trace its error over ``atoms_grid``, and write the record of it into ``out``.

    Beside record.json: layers.csv (one row a layer), curve.csv (one a layer and m), convergence.csv (one a layer and
    round) and atoms.safetensors, the whole decomposition.
    """
    config = config or DecompositionConfig()
    check_kind("config", config, DecompositionConfig)
    atoms_grid = check_each("atoms_grid", atoms_grid, check_whole, 1, MOST)  # before minutes of decomposition
    keep_to_quota()
    folder = make_folder(out)
    loaded = load_model(model, weights=weights)
    head = head_name(loaded)
    exclude = () if head is None else (head,)
    cache = shared_cache()

    def share(layer: Decomposition, recipe: DecompositionConfig) -> None:
        # For tuning runs of the ablation. Nothing is read: this run's seconds and memory are of decomposing.
        if cache is not None:
            cache.store(layer.layout, modules[layer.layout.name], recipe, layer)

    modules, taken = dict(named_layers(loaded)), {"layers": layers, "exclude": exclude}
    began = time.perf_counter()
    with PeakMemory("cpu") as memory:
        decomposed = decompose_model(loaded, config, **taken)
        curve = error_curve(loaded, config, atoms_grid, **taken, known=decomposed, on_decomposed=share)
    wall_seconds = time.perf_counter() - began
    for layer in decomposed.layers.values():
        share(layer, config)
    decomposed.save(folder / "atoms.safetensors")
    table = layer_table(decomposed)
    sizes = table["rows"] * table["atoms"]  # numbers of coefficients
    density = float((table["density"] * sizes).sum() / sizes.sum())
    record = Record(
        kind="decomposition",
        label=f"{model}, m={config.atoms}",
        parameters={"model": model, "atoms_grid": list(atoms_grid), "layers": layers, **asdict(config)},
        seed=config.seed,
        metrics={"relative_error": decomposed.relative_error, "density": density},
        counts={"atoms": int(table["atoms"].sum()), "total": sum(p.numel() for p in loaded.parameters())},
        cost={
            "wall_seconds": wall_seconds,
            "decomposition_seconds": decomposed.seconds,
            "decomposition_iterations": int(table["iterations"].sum()),
            "peak_memory_bytes": memory.bytes,
        },
        environment=describe_environment(),
    )
    return record.write(folder, layers=table, curve=curve, convergence=convergence_table(decomposed))
