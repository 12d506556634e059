"""One run from settings to record: load, decompose, inject, train, judge, save, write down."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from .data import ImageSplit, load_data, n_classes
from .decomposition import DecompositionConfig, decompose_model
from .diagnostics import convergence_table, error_curve, layer_table
from .errors import FiltersubError
from .files import make_folder, write_json, written_whole
from .memory import PeakMemory
from .models import head_name, input_statistics, load_model
from .parameters import ParameterCount, count_trained
from .records import RECORD_FILE, Record, describe_environment, read_record
from .settings import taken_from
from .training import CHECKPOINT_FILE, TrainingConfig, TrainingResult, fit

_USUAL_RATE = 3e-3  # of heads, and of weights tuned whole
METHODS = {
    "filter-subspace": "filter atoms and the head",
    "linear": "the head alone (linear probing)",
    "full": "every weight",
}
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class TuneSettings:
    """Everything that determines a tuning run; see DecompositionConfig, TrainingConfig and load_model for each.

    ``learning_rate`` None becomes 3e-2 for the atoms of spatial kernels, 2e-2 where blocks take part, 3e-3 for full
    tuning and linear probing; ``head_learning_rate`` None becomes 3e-3. Chosen on the digits' validation images.
    ``validation`` trains on 800 and judges on 200 of the 1,000 training images, for choosing settings.
    """

    model: str = "efficientnet_lite0"
    weights: str | None = None
    pretrained: bool = True
    data: str = "digits"
    method: str = "filter-subspace"
    atoms: int = 9
    block: int | None = None
    block_spatial: bool = False
    solver: str = "lasso"
    sparsity: float = 1e-3
    layers: str | None = None
    epochs: int = 8
    batch_size: int = 50
    optimizer: str = "adamw"
    learning_rate: float | None = None
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    batch_norm: str = "recomputed"
    mixed_precision: str = "auto"
    image_size: int = 64
    validation: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise FiltersubError(f"unknown method {self.method!r}; known: {', '.join(METHODS)}")
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", self._usual_rate())
        if self.head_learning_rate is None:
            object.__setattr__(self, "head_learning_rate", _USUAL_RATE)
        _ = self.recipe, self.training  # both validate

    def _usual_rate(self) -> float:
        if self.method != "filter-subspace":
            return _USUAL_RATE
        return 3e-2 if self.block is None else 2e-2

    @property
    def recipe(self) -> DecompositionConfig:
        return taken_from(self, DecompositionConfig)

    @property
    def training(self) -> TrainingConfig:
        return taken_from(self, TrainingConfig)

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        if self.method != "filter-subspace":
            return {"linear": "linear probing", "full": "full tuning"}[self.method]
        blocks = "" if self.block is None else f", {self.block}×{self.block} blocks"
        spatial = " of spatial kernels too" if self.block_spatial else ""
        codes = "" if self.solver == "lasso" else f", {self.solver} codes"
        return f"atoms m={self.atoms}{blocks}{spatial}{codes}"


def tune(settings: TuneSettings, out: str | os.PathLike[str], *, quiet: bool = False) -> Record:
    """Tune a model and write its record, curves, confusion counts and trained weights into the folder ``out``.

    A finished run of the same settings is read back at once; an interrupted one goes on after its last whole epoch.
    Raises FiltersubError on bad settings, or when ``out`` holds a run of other settings or cannot be written.
    """
    folder = make_folder(out)
    finished = _finished(folder, settings)
    if finished is not None:
        _say(quiet, f"{folder} holds this run already; nothing to train")
        return finished
    began = time.perf_counter()
    set_seed(settings.seed)
    prepared = _prepared(settings)
    mean, std = prepared.statistics
    split = load_data(settings.data, size=settings.image_size, mean=mean, std=std, validation=settings.validation)
    result = _train(settings, prepared, split, folder, quiet)
    wall_seconds = time.perf_counter() - began
    _save_weights(prepared.model, settings, folder)
    record = _record(settings, split, prepared, result, wall_seconds)
    record = record.write(folder, history=pd.DataFrame(result.history), confusion=_long_form(result.confusion))
    for leftover in (CHECKPOINT_FILE, PROGRESS_FILE):
        (folder / leftover).unlink(missing_ok=True)
    return record


def _finished(folder: Path, settings: TuneSettings) -> Record | None:
    if not (folder / RECORD_FILE).exists():
        return None
    record = read_record(folder)
    if record.parameters != asdict(settings):
        raise FiltersubError(f"{folder} holds the record of another run; choose another output folder")
    return record


@dataclass(frozen=True)
class _Prepared:
    """A model with the method injected, the name of its head, its parameter counts, the cost of the decomposition."""

    model: nn.Module
    head: str
    count: ParameterCount
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    cost: dict[str, float]


def _prepared(settings: TuneSettings) -> _Prepared:
    model = load_model(
        settings.model, pretrained=settings.pretrained, weights=settings.weights, num_classes=n_classes(settings.data)
    )
    head = head_name(model)
    if head is None:
        raise FiltersubError(f"{settings.model} has no classification head that could be trained")
    total, statistics = sum(p.numel() for p in model.parameters()), input_statistics(model)
    cost = {}
    if settings.method == "linear":
        model.requires_grad_(False)
        model.get_submodule(head).requires_grad_(True)
    elif settings.method == "filter-subspace":
        model, cost = _with_atoms(model, settings, head)
    count = count_trained(model, head, settings.model, settings.method, total)
    return _Prepared(model, head, count, statistics, cost)


def _with_atoms(model: nn.Module, settings: TuneSettings, head: str) -> tuple[nn.Module, dict[str, float]]:
    from peft import get_peft_model

    from .kernels import select_layers
    from .tuning import FilterSubspaceConfig

    recipe = settings.recipe
    chosen = select_layers(
        model, layers=settings.layers, block=recipe.block, block_spatial=recipe.block_spatial, exclude=(head,)
    )
    config = FilterSubspaceConfig(
        target_modules=list(chosen),
        modules_to_save=[head],
        save_batch_norm=settings.batch_norm != "frozen",
        **asdict(recipe),
    )
    began = time.perf_counter()
    tuned = get_peft_model(model, config)
    return tuned, {"decomposition_seconds": time.perf_counter() - began}


def _train(settings: TuneSettings, prepared: _Prepared, split: ImageSplit, folder: Path, quiet: bool) -> TrainingResult:
    """Trains with a bar on a terminal, a line an epoch elsewhere, and progress.json for whoever watches the folder."""
    on_terminal = sys.stderr.isatty() and not quiet
    bar = tqdm(desc=settings.label, unit="step", disable=not on_terminal)

    def on_step(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    def on_epoch(row: dict[str, float]) -> None:
        write_json(folder / PROGRESS_FILE, {"epoch": row["epoch"], "epochs": settings.epochs})
        accuracy = row[f"{split.judged_on}_accuracy"]
        if on_terminal:
            bar.set_postfix({f"{split.judged_on} accuracy": f"{accuracy:.1%}"})
        else:
            _say(
                quiet,
                f"epoch {row['epoch']}/{settings.epochs}  loss {row['train_loss']:.3f}  "
                f"{split.judged_on} accuracy {accuracy:.1%}  {row['seconds']:.1f} s",
            )

    try:
        return fit(
            prepared.model,
            split.train,
            split.judged,
            split.n_classes,
            settings.training,
            head=prepared.head,
            judged_on=split.judged_on,
            folder=folder,
            on_epoch=on_epoch,
            on_step=on_step,
        )
    finally:
        bar.close()


def _save_weights(model: nn.Module, settings: TuneSettings, folder: Path) -> None:
    """The adapter as peft saves it; for the other methods what was trained (and batch norm's statistics)."""
    if settings.method == "filter-subspace":
        aside = folder / ".adapter.part"
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        aside.rename(folder / "adapter")
        return
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    running = {name for name, _ in model.named_buffers()}
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k in trained | running}
    with written_whole(folder / "weights.safetensors") as file:
        save_file(state, file)


def _record(
    settings: TuneSettings,
    split: ImageSplit,
    prepared: _Prepared,
    result: TrainingResult,
    wall_seconds: float,
) -> Record:
    last = result.history[-1]
    metrics = {key: last[key] for key in last if key.endswith(("_accuracy", "_loss"))}
    cost = {
        "wall_seconds": wall_seconds,
        "seconds_per_step": result.seconds_per_step,
        "peak_memory_bytes": result.peak_memory_bytes,
        **prepared.cost,
    }
    return Record(
        kind="tuning",
        label=settings.label,
        parameters=asdict(settings),
        seed=settings.seed,
        metrics=metrics,
        counts={name: getattr(prepared.count, name) for name in ("trainable", "head", "total")},
        cost={key: value for key, value in cost.items() if value == value},  # a resumed, finished run has no step
        environment={
            **describe_environment(),
            "trained_on": result.device,
            "mixed_precision": result.mixed_precision,
            "resumed_from_epoch": result.resumed_from_epoch,
            "judged_on": split.judged_on,
        },
    )


def decompose_run(
    out: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    weights: str | None = None,
    atoms_grid: Sequence[int] = (3, 6, 9),
    config: DecompositionConfig | None = None,
    layers: str | None = None,
    on_layer: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Decompose a model by the recipe, trace its error over ``atoms_grid``, and write the record of it into ``out``.

    Beside record.json: layers.csv (one row a layer), curve.csv (one a layer and m), convergence.csv (one a layer and
    round) and atoms.safetensors, the whole decomposition.
    """
    folder = make_folder(out)
    config = config or DecompositionConfig()
    loaded = load_model(model, weights=weights)
    head = head_name(loaded)
    exclude = () if head is None else (head,)
    began = time.perf_counter()
    with PeakMemory("cpu") as memory:
        decomposed = decompose_model(loaded, config, layers=layers, exclude=exclude, on_layer=on_layer)
        curve = error_curve(loaded, config, atoms_grid, layers=layers, exclude=exclude, on_layer=on_layer)
    wall_seconds = time.perf_counter() - began
    decomposed.save(folder / "atoms.safetensors")
    table = layer_table(decomposed)
    record = Record(
        kind="decomposition",
        label=f"{model}, m={config.atoms}",
        parameters={"model": model, "atoms_grid": list(atoms_grid), "layers": layers, **asdict(config)},
        seed=config.seed,
        metrics={"relative_error": decomposed.relative_error, "density": _density(table)},
        counts={
            "atoms": int(table["atoms"].sum()),
            "total": sum(p.numel() for p in loaded.parameters()),
        },
        cost={
            "wall_seconds": wall_seconds,
            "decomposition_seconds": decomposed.seconds,
            "decomposition_iterations": int(table["iterations"].sum()),
            "peak_memory_bytes": memory.bytes,
        },
        environment=describe_environment(),
    )
    return record.write(folder, layers=table, curve=curve, convergence=convergence_table(decomposed))


def _density(table: pd.DataFrame) -> float:
    """Of all coefficients of the model together."""
    sizes = table["rows"] * table["atoms"]
    return float((table["density"] * sizes).sum() / sizes.sum())


def _long_form(confusion: Tensor) -> pd.DataFrame:
    n = confusion.shape[0]
    true, predicted = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    columns = {"true": true, "predicted": predicted, "count": confusion}
    return pd.DataFrame({name: values.reshape(-1).tolist() for name, values in columns.items()})


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        print(line, flush=True)
