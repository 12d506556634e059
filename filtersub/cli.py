"""The command line: parse, call one function, print. No logic of its own."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import FiltersubError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    help="Decompose convolution kernels into filter atoms, tune only the atoms, publish the ablation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: what there is, and whether it is complete.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="efficientnet_lite0 (embedded weights), a timm name, timm:NAME, torchvision:NAME, diffusers:FOLDER",
    ),
]
Atoms = Annotated[int, typer.Option(help="Filter atoms m of a spatial kernel; a block of p x q channels gets m p q.")]
Block = Annotated[int | None, typer.Option(help="Channel block k_c: 1x1 kernels and linear layers take part too.")]
BlockSpatial = Annotated[bool, typer.Option("--block-spatial", help="Block the channels of spatial kernels too.")]
Solver = Annotated[str, typer.Option(help="lasso, fista, omp, pca, spams or sklearn.")]
Sparsity = Annotated[float, typer.Option(help="l in 1/2 ||F - alpha D||^2 + l ||alpha||_1 (half the paper's lambda).")]
Layers = Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose name this matches.")]
Weights = Annotated[Path | None, typer.Option(help="Local file of weights for the architecture (safetensors or pth).")]
Random = Annotated[bool, typer.Option("--random", help="Random weights instead of pretrained ones.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Method(StrEnum):
    FILTER_SUBSPACE = "filter-subspace"
    LORA = "lora"
    LINEAR = "linear"
    FULL = "full"


@app.command()
def decompose(
    model: Model,
    atoms: Atoms = 9,
    block: Block = None,
    block_spatial: BlockSpatial = False,
    solver: Solver = "lasso",
    sparsity: Sparsity = 1e-3,
    nonzeros: Annotated[int | None, typer.Option(help="Largest support of a row, for omp (a third of m).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial atoms.")] = 0,
    layers: Layers = None,
    weights: Weights = None,
    random: Random = False,
    out: Annotated[Path | None, typer.Option(help="Folder for atoms.safetensors and layers.csv.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decompose a model's kernels (or a bare file of weights) into filter atoms and coefficients."""
    from .decomposition import DecompositionConfig, decompose_model
    from .diagnostics import layer_table
    from .files import make_folder, written_whole

    recipe = DecompositionConfig(
        atoms=atoms,
        block=block,
        block_spatial=block_spatial,
        solver=solver,
        sparsity=sparsity,
        nonzeros=nonzeros,
        seed=seed,
    )
    folder = None if out is None else make_folder(out)
    source, exclude = _weights_of(model, weights, random)
    with _layer_bar() as on_layer:
        found = decompose_model(source, recipe, layers=layers, exclude=exclude, on_layer=on_layer)
    table = layer_table(found)
    if folder is not None:
        found.save(folder / "atoms.safetensors")
        with written_whole(folder / "layers.csv") as aside:
            table.to_csv(aside, index=False)
    if as_json:
        summary = {"model": model, "relative_error": found.relative_error, "seconds": found.seconds}
        _print_json({**summary, "layers": table.to_dict("records")})
        return
    shown = table[["name", "shape", "rows", "atoms", "relative_error", "density", "objective", "iterations", "seconds"]]
    _print_table(shown, f"{model}: relative error {found.relative_error:.2%} in {found.seconds:.1f} s")


@app.command()
def count(
    model: Model,
    method: Annotated[Method, typer.Option(help="What is trained.")] = Method.FILTER_SUBSPACE,
    atoms: Atoms = 9,
    block: Block = None,
    block_spatial: BlockSpatial = False,
    solver: Solver = "lasso",
    rank: Annotated[int, typer.Option(help="Rank of LoRA.")] = 16,
    layers: Layers = None,
    classes: Annotated[int | None, typer.Option(help="Classes of a new head.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count what a method would train, from the architecture alone (no weights are loaded)."""
    from .decomposition import DecompositionConfig
    from .parameters import count_parameters

    recipe = DecompositionConfig(atoms=atoms, block=block, block_spatial=block_spatial, solver=solver)
    found = count_parameters(model, method.value, recipe=recipe, rank=rank, layers=layers, num_classes=classes)
    if as_json:
        _print_json(found.to_json())
        return
    if found.layers:
        _print_table(found.table(), model)
    typer.echo(
        f"{model}, {method.value}: {found.trainable:,} trained + {found.head:,} in the head, "
        f"of {found.total:,} ({found.fraction:.3%} without the head)"
    )


@app.command()
def tune(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of the run: record, curves, trained weights.")],
    data: Annotated[str, typer.Option(help="Data set by name.")] = "digits",
    method: Annotated[Method, typer.Option(help="What is trained.")] = Method.FILTER_SUBSPACE,
    atoms: Atoms = 9,
    block: Block = None,
    block_spatial: BlockSpatial = False,
    solver: Solver = "lasso",
    sparsity: Sparsity = 1e-3,
    layers: Layers = None,
    weights: Weights = None,
    random: Random = False,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 8,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 50,
    optimizer: Annotated[str, typer.Option(help="adamw or adam.")] = "adamw",
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; default by method.")] = None,
    head_learning_rate: Annotated[float | None, typer.Option(help="The same for the new head.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-4,
    warmup_epochs: Annotated[float, typer.Option(help="Epochs of linear warm-up.")] = 1.0,
    batch_norm: Annotated[
        str, typer.Option(help="Running statistics: adapted, frozen, updated or recomputed.")
    ] = "adapted",
    mixed_precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    image_size: Annotated[int, typer.Option(help="Images are enlarged to this many pixels.")] = 48,
    validation: Annotated[bool, typer.Option("--validation", help="Train on 800, judge on the other 200.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the head, the order of images and the initial atoms.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Tune a model on a data set and write the run's record. A rerun resumes, or returns what is done."""
    from .experiment import TuneSettings
    from .experiment import tune as run

    settings = TuneSettings(
        model=model,
        weights=None if weights is None else str(weights),
        pretrained=not random,
        data=data,
        method=method.value,
        atoms=atoms,
        block=block,
        block_spatial=block_spatial,
        solver=solver,
        sparsity=sparsity,
        layers=layers,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        weight_decay=weight_decay,
        warmup_epochs=warmup_epochs,
        batch_norm=batch_norm,
        mixed_precision=mixed_precision,
        image_size=image_size,
        validation=validation,
        seed=seed,
    )
    record = run(settings, out, quiet=as_json)
    if as_json:
        _print_json({"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost})
        return
    accuracy = next(value for key, value in record.metrics.items() if key in ("test_accuracy", "validation_accuracy"))
    typer.echo(
        f"{record.label}: accuracy {accuracy:.1%}, {record.counts['trainable']:,} trained parameters "
        f"+ {record.counts['head']:,} in the head; record in {out}"
    )


@app.command()
def ablate(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A YAML file, or a preset: quickstart.")],
    out: Annotated[Path, typer.Option(help="Folder of the ablation.")],
    workers: Annotated[int | None, typer.Option(help="Notebooks at once; default one a core.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT.")] = None,
) -> None:
    """Run an ablation's notebooks with papermill; finished runs are used again. Then write its report."""
    from .ablation import load_spec, run_ablation
    from .report import write_report

    loaded = load_spec(spec)
    summary = run_ablation(loaded, out, workers=workers, scheduler=scheduler)
    typer.echo(f"report: {write_report(out, loaded)}")
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A folder of runs, wherever they were made.")]) -> None:
    """Write the HTML report of all records below a folder."""
    from .report import write_report

    typer.echo(f"report: {write_report(folder)}")


@data_app.command("list")
def data_list() -> None:
    """The data sets that are known by name."""
    from .data import DATASETS

    for name, what in DATASETS.items():
        typer.echo(f"{name}: {what}")


@data_app.command("check")
def data_check(name: Annotated[str, typer.Argument(help="Data set by name.")]) -> None:
    """Load a data set and say what is there."""
    from .data import load_data

    split = load_data(name)
    typer.echo(f"{name}: {len(split.train)} training and {len(split.judged)} test images, {split.n_classes} classes")


def main() -> None:
    """Entry point: bad input is one line on standard error and exit code 2."""
    try:
        app()
    except FiltersubError as error:
        sys.stderr.write(f"filtersub: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("filtersub: interrupted; what was finished is kept, run the same command to go on\n")
        raise SystemExit(130) from None


def _weights_of(model: str, weights: Path | None, random: bool) -> tuple[Any, tuple[str, ...]]:
    """(module or bare tensors, names left out): the head of a model takes no part."""
    from .models import head_name, is_weight_file, load_model, load_weight_file

    if is_weight_file(model):
        return load_weight_file(model), ()
    loaded = load_model(model, weights=weights, pretrained=not random)
    head = head_name(loaded)
    return loaded, () if head is None else (head,)


class _layer_bar:
    """A progress bar over layers on standard error; nothing where that is not a terminal."""

    def __enter__(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._progress.start()
        task = self._progress.add_task("")
        return lambda done, total, name: self._progress.update(task, completed=done, total=total, description=name)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _print_table(table: pd.DataFrame, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title)
    for name in table.columns:
        shown.add_column(name, justify="left" if table[name].dtype == object or name == "name" else "right")
    for row in table.itertuples(index=False):
        shown.add_row(*(_cell(value) for value in row))
    Console().print(shown)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "×".join(str(part) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
