"""``filtersub tune``: options in, one call, one line out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import AsJson, Atoms, Block, BlockSpatial, Layers, Model, Random, Solver, Sparsity, Weights
from .console import print_json


class Method(StrEnum):
    FILTER_SUBSPACE = "filter-subspace"
    LORA = "lora"
    LINEAR = "linear"
    FULL = "full"


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
    ] = "recomputed",
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
