"""What does decomposing a whole model take, and what does the network keep of its predictions?"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from torch import Tensor, nn

from .. import diagnostics
from ..decomposition import DecompositionConfig, ModelDecomposition, choose_atoms, decompose_model
from ..decomposition.layer import warm_up
from ..decomposition.recipe import check_max_error
from ..errors import FiltersubError
from ..files import make_folder
from ..folder_lock import locks
from ..kernel_layout import check_block
from ..kernels import select_layers
from ..memory import PeakMemory
from ..models import channels_last_, head_name, input_statistics, load_model
from ..photographs import PHOTOGRAPHS, centre_crops, photograph_batches
from ..records import Record, describe_environment
from ..settings import MOST, MOST_PIXELS, MOST_SEED, check_each, check_kind, check_switch, check_whole

_FEW = 16  # images for the output errors of the curve: their median settles sooner than predictions do


@locks("out")
def model_study(
    out: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    pretrained: bool = True,
    config: DecompositionConfig | None = None,
    atoms_grid: Sequence[int] = (3, 6, 9, 12, 16, 20, 25),
    layers: str | None = None,
    n_images: int = 48,
    image_size: int = 224,
    tensor_formats: bool = True,
    max_error: float | None = None,
    seeds: Sequence[int] = (0,),
    on_layer: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Decompose every layer of a model at each m, look at it from all sides, and write the record into ``out``.

    Parameters
    ----------
    model, pretrained : see load_model; without pretrained weights the predictions mean nothing and are not compared
    config : the recipe; its ``atoms`` is the m that every table but curve.csv is of
    atoms_grid : values of m for the curve; layers : regular expression of layer names
    n_images, image_size : photographs.photograph_batches; 0 images leave outputs and predictions out
    tensor_formats : compare with CP and Tucker at equal storage
    max_error : relative error for which the smallest m is sought, of each layer and of the model as "(model)", see
        choose_atoms; None seeks none. Where none meets it the record's notes say why
    seeds : of the initial atoms, for network.csv; the recipe has the one for all else

    Beside record.json: layers, costs, convergence, kernel_quantiles, supports, frequent_supports, atoms, coherence,
    correlation_quantiles, spectrum, subspace, energy, levels and, where asked for, outputs, predictions, photographs
    and storage, all as filtersub.diagnostics describes them; curve.csv, one row a layer and m of the first seed;
    network.csv, one row an m and seed; choice.csv, the curve of max_error; and atoms.safetensors.
    """
    config = config or DecompositionConfig()
    check_kind("config", config, DecompositionConfig)
    for name, switch in (("pretrained", pretrained), ("tensor_formats", tensor_formats)):
        check_switch(name, switch)
    atoms_grid = check_each("atoms_grid", atoms_grid, check_whole, 1, MOST)
    seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    check_whole("n_images", n_images, 0)
    check_whole("image_size", image_size, 1, MOST_PIXELS)
    if max_error is not None:
        check_max_error(max_error)
    folder = make_folder(out)
    loaded = channels_last_(load_model(model, pretrained=pretrained))
    head = head_name(loaded)
    exclude = () if head is None else (head,)
    images = _Images(loaded, n_images if pretrained else 0, image_size)
    taking_part = select_layers(loaded, layers=layers, exclude=exclude, **config.kernel_blocks)
    warm_up(taking_part.values(), config, atoms_grid)
    began = time.perf_counter()
    with PeakMemory("cpu") as memory:
        asked = {"layers": layers, "exclude": exclude, "on_layer": on_layer}
        decomposed = decompose_model(loaded, config, **asked)
        tables = _tables(loaded, decomposed, images, tensor_formats)
        choice, notes = _choice(loaded, config, max_error, asked)
        settings = [replace(config, atoms=m, seed=seed) for seed in seeds for m in atoms_grid]
        curve, network = _curves(loaded, settings, images, asked)
    wall_seconds = time.perf_counter() - began
    decomposed.save(folder / "atoms.safetensors")
    total = diagnostics.model_table(decomposed).iloc[0]
    metrics = {"relative_error": decomposed.relative_error, "density": float(total["density"])}
    if "predictions" in tables:
        metrics["agreement"] = float(tables["predictions"]["agrees"].mean())
        metrics["median_output_error"] = float(tables["outputs"]["output_error"].median())
    parameters = {
        **{"model": model, "pretrained": pretrained, "atoms_grid": list(atoms_grid), "layers": layers},
        **{"n_images": images.count, "image_size": image_size, "max_error": max_error, "seeds": list(seeds)},
        **asdict(config),
    }
    record = Record(
        kind="decomposition",
        label=_label(model, config, pretrained),
        parameters=parameters,
        seed=config.seed,
        metrics=metrics,
        counts={
            **{name: int(total[name]) for name in ("layers", "rows", "atoms")},
            "total": sum(p.numel() for p in loaded.parameters()),
        },
        cost={
            "wall_seconds": wall_seconds,
            "decomposition_seconds": decomposed.seconds,
            "decomposition_iterations": int(total["rounds"]),
            "peak_memory_bytes": memory.bytes,
        },
        environment=describe_environment(),
        notes=notes,
    )
    return record.write(folder, curve=curve, network=network, **choice, **tables)


def _label(model: str, config: DecompositionConfig, pretrained: bool) -> str:
    """What sets the run apart for a reader."""
    sides = "" if config.block is None else ", {}×{} blocks".format(*check_block(config.block))
    codes = "" if config.solver == "lasso" else f", {config.solver} codes"
    return f"{model}, m={config.atoms}{sides}{codes}{'' if pretrained else ', random weights'}"


class _Images:
    """The photographs as a model wants them; none where ``count`` is 0."""

    def __init__(self, model: nn.Module, count: int, size: int) -> None:
        mean, std = input_statistics(model)
        self.count, self._options = count, {"size": size, "mean": mean, "std": std}

    def crops(self, most: int | None = None) -> Iterator[Tensor]:
        return photograph_batches(self.count if most is None else min(self.count, most), **self._options)

    def whole(self) -> list[Tensor]:
        return [centre_crops(**self._options)]


def _tables(
    model: nn.Module, decomposed: ModelDecomposition, images: _Images, tensor_formats: bool
) -> dict[str, pd.DataFrame]:
    tables = {
        "layers": diagnostics.layer_table(decomposed),
        "costs": diagnostics.cost_table(model, decomposed),
        "convergence": diagnostics.convergence_table(decomposed),
        "kernel_quantiles": diagnostics.kernel_quantiles(model, decomposed),
        "supports": diagnostics.support_table(decomposed),
        "frequent_supports": diagnostics.frequent_supports(decomposed),
        "atoms": diagnostics.atom_table(decomposed),
        "coherence": diagnostics.coherence_table(decomposed),
        "correlation_quantiles": diagnostics.correlation_quantiles(decomposed),
        "spectrum": diagnostics.spectrum_table(model, decomposed),
        "subspace": diagnostics.subspace_table(model, decomposed),
        "energy": diagnostics.energy_table(model, decomposed),
        "levels": diagnostics.level_table(decomposed),
    }
    if images.count:
        tables["outputs"] = diagnostics.output_table(model, decomposed, images.crops())
        tables["predictions"] = diagnostics.prediction_table(model, decomposed, images.crops())
        whole = diagnostics.prediction_table(model, decomposed, images.whole())
        tables["photographs"] = _named(whole.assign(photograph=list(PHOTOGRAPHS)), model)
    if tensor_formats:
        tables["storage"] = diagnostics.storage_table(model, decomposed)
    return tables


def _named(predictions: pd.DataFrame, model: nn.Module) -> pd.DataFrame:
    """ImageNet's words for the classes where the network has its thousand; the numbers otherwise."""
    from timm.data import ImageNetInfo

    words = ImageNetInfo() if getattr(model, "num_classes", None) == 1000 else None

    def word(index: int) -> str:
        return str(index) if words is None else words.index_to_description(int(index)).split(",")[0]

    pairs = {"class_name": "predicted", "class_name_rebuilt": "predicted_rebuilt"}
    return predictions.assign(**{name: predictions[column].map(word) for name, column in pairs.items()})


def _choice(
    model: nn.Module, config: DecompositionConfig, max_error: float | None, asked: dict[str, Any]
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """(the curves of the smallest m, per layer and for the model; why none was chosen)."""
    if max_error is None:
        return {}, {}
    try:
        each = [choose_atoms(model, config, per=per, max_error=max_error, **asked) for per in ("layer", "model")]
    except FiltersubError as error:
        return {}, {"max_error": str(error)}
    return {"choice": pd.concat([found.curve for found in each], ignore_index=True)}, {}


def _curves(
    model: nn.Module, settings: Sequence[DecompositionConfig], images: _Images, asked: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a layer_table at each m, of the first seed; what the network keeps at each m and seed)."""
    curves, network = [], []
    for setting in settings:
        found = decompose_model(model, setting, **asked)
        if setting.seed == settings[0].seed:
            curves.append(diagnostics.layer_table(found).assign(m=setting.atoms))
        row = {"m": setting.atoms, "seed": setting.seed, "relative_error": found.relative_error}
        row["seconds"] = found.seconds
        if images.count:
            row |= diagnostics.agreement(diagnostics.prediction_table(model, found, images.crops())).iloc[0]
            outputs = diagnostics.output_table(model, found, images.crops(_FEW))
            row["output_error"] = float(outputs["output_error"].median())
        network.append(row)
    return pd.concat(curves, ignore_index=True), pd.DataFrame(network)
