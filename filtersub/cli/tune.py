"""``filtersub tune``: options in, one call, one line out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import FiltersubError
from .console import print_json
from .options import (
    AsJson,
    Atoms,
    Block,
    BlockCoefficients,
    BlockSpatial,
    ExpansionCoefficients,
    ExpansionLayers,
    Init,
    L1Penalty,
    Layers,
    Learner,
    LimitAtoms,
    LogWith,
    MaxRounds,
    Nonnegative,
    Nonzeros,
    Override,
    PaperRun,
    Pretrained,
    Reading,
    Solver,
    Tolerance,
    Weights,
    stated,
)

_METHODS = (
    "filter-subspace, linear, full, bitfit, norm, ssf, conv-adapter, lora, lora-loralib, dora, loha, lokr, oft, "
    "boft, adalora, tucker-lora, tucker-loha, tucker-lokr, hra, hira or ia3"
)
_RENAMED = {"override": "overrides"}


def tune(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run: record, curves, trained weights.")],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="As for decompose; a recipe names one of its own.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Training recipe by name or YAML file; other options given override its values.")
    ] = None,
    decomposition: Annotated[
        Path | None,
        typer.Option(help="What `decompose --out` or `suggest --out` wrote: its settings; options given here win."),
    ] = None,
    paper: PaperRun = None,
    reading: Reading = None,
    data: Annotated[str, typer.Option(help="Data set by name, see `filtersub data list`.")] = "digits",
    n_train: Annotated[int | None, typer.Option(help="Train on so many images, every class alike.")] = None,
    method: Annotated[str, typer.Option(help=f"What is trained: {_METHODS}.")] = "filter-subspace",
    atoms: Atoms = 9,
    expansion: Annotated[str | None, typer.Option(help="m_1: atoms of atoms (setting 2); 4,3 for two levels.")] = None,
    expansion_coefficients: ExpansionCoefficients = "shared",
    expansion_layers: ExpansionLayers = "spatial",
    expansion_init: Annotated[
        str, typer.Option(help="Start of d-alpha_1: uniform (Kaiming), or fan-in-normal (as the authors' code).")
    ] = "uniform",
    init_scale: Annotated[float, typer.Option(help="Factor > 0 on the start of d-alpha_1.")] = 1.0,
    block: Block = None,
    block_spatial: BlockSpatial = False,
    block_coefficients: BlockCoefficients = False,
    limit_atoms: LimitAtoms = True,
    override: Override = None,
    train_coefficients: Annotated[bool, typer.Option("--train-coefficients", help="Control: train alpha too.")] = False,
    solver: Solver = "lasso",
    l1_penalty: L1Penalty = 1e-3,
    nonzeros: Nonzeros = None,
    max_rounds: MaxRounds = None,
    tol: Tolerance = None,
    nonnegative: Nonnegative = False,
    init: Init = "rows",
    learner: Learner = "alternating",
    rank: Annotated[int, typer.Option(help="Of the lora methods, dora, loha, lokr, hra and hira.")] = 16,
    depthwise_rank: Annotated[
        int | None, typer.Option(help="Of lora-loralib on depthwise convolutions; default --rank.")
    ] = None,
    adapter_scale: Annotated[float, typer.Option(help="Factor of low-rank updates (peft's alpha / r).")] = 1.0,
    update_dropout: Annotated[float, typer.Option(help="Dropout of the update's inputs, for lora and its kin.")] = 0.0,
    oft_block: Annotated[int, typer.Option(help="Block size of oft.")] = 32,
    boft_block: Annotated[int, typer.Option(help="Block size of boft.")] = 4,
    reduction: Annotated[int, typer.Option(help="Of conv-adapter: channels in over channels between.")] = 4,
    layers: Layers = None,
    weights: Weights = None,
    pretrained: Pretrained = True,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 8,
    batch_size: Annotated[int, typer.Option(help="Images a step, over all processes.")] = 50,
    accumulation: Annotated[int, typer.Option(help="Parts a batch is computed in, to save memory.")] = 1,
    optimizer: Annotated[str, typer.Option(help="adamw, adam or soap.")] = "adamw",
    learning_rate: Annotated[
        str | None, typer.Option(help="Peak learning rate, or 'choose' by validation images; default by method.")
    ] = None,
    rates: Annotated[str | None, typer.Option(help="Candidates of 'choose', such as 0.001,0.01.")] = None,
    head_learning_rate: Annotated[float | None, typer.Option(help="Of the new head; default 3e-3.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-4,
    schedule: Annotated[str, typer.Option(help="cosine or constant.")] = "cosine",
    min_rate: Annotated[float, typer.Option(help="Learning rate at the end of the cosine.")] = 0.0,
    warmup_epochs: Annotated[float, typer.Option(help="Epochs of linear warm-up.")] = 1.0,
    warmup_rate: Annotated[float | None, typer.Option(help="Learning rate of the first step of the warm-up.")] = None,
    label_smoothing: Annotated[float, typer.Option(help="Share of the target spread over all classes.")] = 0.0,
    mixup: Annotated[float, typer.Option(help="Alpha of mixup's Beta distribution, such as 0.8; 0 is off.")] = 0.0,
    cutmix: Annotated[float, typer.Option(help="Alpha of cutmix's Beta distribution, such as 1; 0 is off.")] = 0.0,
    drop_path: Annotated[
        float | None, typer.Option(help="Rate of stochastic depth in the last block; default the architecture's.")
    ] = None,
    head_dropout: Annotated[float, typer.Option(help="Dropout before the head.")] = 0.0,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Judge and keep averages of the weights, such as 0.99.")
    ] = None,
    ema_warmup: Annotated[
        bool, typer.Option("--ema-warmup/--no-ema-warmup", help="At step t the decay is at most t / (t + 10).")
    ] = True,
    evaluation_interval: Annotated[
        int, typer.Option(help="Evaluate after every so many epochs; after the last in any case.")
    ] = 1,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better validation accuracy, then stop.")
    ] = None,
    batch_norm: Annotated[
        str, typer.Option(help="Running statistics: adapted, frozen, updated or recomputed.")
    ] = "recomputed",
    mixed_precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    compile: Annotated[str, typer.Option(help="torch.compile: no, inductor, aot_eager or eager.")] = "no",
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    image_size: Annotated[int, typer.Option(help="Images are resized to this many pixels.")] = 64,
    augmentation: Annotated[
        str, typer.Option(help="Of the training images: none, crop-flip, randaugment or timm.")
    ] = "none",
    judge_crop: Annotated[
        float | None, typer.Option(help="Share of the image kept in its middle for judging, such as 0.875.")
    ] = None,
    validation: Annotated[bool, typer.Option("--validation", help="Train on 800, judge on the other 200.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the head, the order of images and the initial atoms.")] = 0,
    log_with: LogWith = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="The same as --log-with tensorboard.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune a model on a data set and write the run's record. A rerun resumes, or returns what is done.

    On several devices: accelerate launch -m filtersub tune ...
    """
    from ..progress import waiting

    with waiting("loading"):
        from ..experiment import TuneSettings
        from ..experiment import tune as run
        from ..methods.options import check_meant
        from ..recipes import load_recipe
        from ..records import RUN_NOTES
        from ..training.accelerator import processes

    given = _given(context, {field.name for field in fields(TuneSettings)})
    if decomposition is not None:
        from ..recipe_file import read_for_tuning

        given = {**read_for_tuning(decomposition), **given}
    if paper is not None or reading is not None:
        settings = _by_reading(paper, reading, recipe, given)
    elif recipe is not None:
        settings = load_recipe(recipe).settings_with(**given)
    elif model is None:
        raise FiltersubError("name a MODEL, such as efficientnet_lite0, or a --recipe")
    else:
        settings = TuneSettings(**given)
    check_meant(settings.method, given)
    if tensorboard:
        log_with = ",".join(filter(None, (log_with, "tensorboard")))
    record = run(settings, out, quiet=as_json, log_with=log_with)
    if not processes().is_main_process:
        return
    if as_json:
        found = {"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost}
        print_json({**found, "choices": record.choices, "notes": record.notes})
        return
    accuracy = next(value for key, value in record.metrics.items() if key in ("test_accuracy", "validation_accuracy"))
    if record.choices:
        typer.echo(f"learning rate {record.choices['learning_rate']['chosen']:g}, by the validation images")
    if record.layers_passed_over:
        name, reason = next(iter(record.layers_passed_over.items()))
        typer.echo(f"{len(record.layers_passed_over)} layers could not take part, {name} for one: {reason}")
    for note in RUN_NOTES:
        if note in record.notes:
            typer.echo(record.notes[note])
    typer.echo(
        f"{record.label}: accuracy {accuracy:.1%}, {record.counts['trainable']:,} trained parameters "
        f"+ {record.counts['head']:,} in the head; record in {out}"
    )


def _given(context: typer.Context, known: set[str]) -> dict[str, Any]:
    """What stands on the command line, by the names and types of the settings; defaults are left to these."""
    given = {}
    for option, value in stated(context).items():
        name = _RENAMED.get(option, option)
        if name in known:
            given[name] = _READ[option](value) if option in _READ and value is not None else value
    return given


def _by_reading(paper: str | None, reading: str | None, recipe: str | None, given: dict[str, Any]) -> Any:
    """Settings of a run of the paper; `given` may name another model, data set or size."""
    from ..paper import choose, tune_settings

    named = {name: given.get(name) for name in ("model", "data")}
    chosen = choose(reading, paper, recipe=recipe, given=given, **named)
    return tune_settings(chosen, given, recipe)


def _rate(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the settings know which words mean something


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise FiltersubError(f"--rates takes numbers such as 0.001,0.01; got {text!r}") from None


def _expansion(text: str) -> int | tuple[int, ...] | None:
    from ..recipe_file import read_sizes

    sizes = read_sizes(text)
    return sizes[0] if sizes is not None and len(sizes) == 1 else sizes


def _overrides(texts: list[str]) -> dict[str, dict[str, Any]]:
    from ..recipe_file import read_overrides

    return read_overrides(texts)


_READ: dict[str, Any] = {
    "learning_rate": _rate,
    "rates": _rates,
    "expansion": _expansion,
    "weights": str,
    "override": _overrides,
}
