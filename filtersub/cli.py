"""The command line: parse, call one function, print. No logic of its own."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_counting import count, suggest
from .cli_decompose import decompose
from .cli_options import AsJson, Atoms, Block, BlockSpatial, Layers, Model, Random, Solver, Sparsity, Weights
from .console import print_json
from .errors import FiltersubError

app = typer.Typer(
    help="Decompose convolution kernels into filter atoms, tune only the atoms, publish the ablation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: what there is, and whether it is complete.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command()(decompose)
app.command()(count)
app.command()(suggest)


class Method(StrEnum):
    FILTER_SUBSPACE = "filter-subspace"
    LORA = "lora"
    LINEAR = "linear"
    FULL = "full"


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
    head_learning_rate: Annotated[float | None, typer.Option(help="Of the new head; default 3e-3.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-4,
    warmup_epochs: Annotated[float, typer.Option(help="Epochs of linear warm-up.")] = 1.0,
    batch_norm: Annotated[
        str, typer.Option(help="Running statistics: adapted, frozen, updated or recomputed.")
    ] = "adapted",
    mixed_precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    image_size: Annotated[int, typer.Option(help="Images are enlarged to this many pixels.")] = 64,
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
        print_json({"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost})
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


if __name__ == "__main__":
    main()
