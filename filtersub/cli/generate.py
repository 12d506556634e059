"""``filtersub generate-tune``, ``generate`` and ``distance``: options in, one call, one line out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Tenths, print_json
from .options import AsJson, Device, L1Penalty, Solver, chosen_device, stated

_METHODS = "none, full, filter-subspace, lora, dora, loha, lokr, oft, boft, hra, hira or ia3"
Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a Stable Diffusion pipeline.")]
Seed = Annotated[int, typer.Option(help="Of noise, order and initial updates.")]
Size = Annotated[int, typer.Option(help="Pixels a side.")]
Guidance = Annotated[float, typer.Option(help="Weight of the prompt; 1 is none.")]
Features = Annotated[str, typer.Option(help="inception (FID), or a folder of a CLIP or DINO model of transformers.")]
FeatureWeights = Annotated[
    Path | None, typer.Option(help="File of the Inception weights; default torch's cache of downloads.")
]


def generate_tune(
    context: typer.Context,
    pipeline: Pipeline,
    data: Annotated[Path, typer.Option(help="Folder of images: one folder a class, or metadata.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: record, adapter, images.")],
    method: Annotated[str, typer.Option(help=f"What is trained: {_METHODS}.")] = "filter-subspace",
    atoms: Annotated[int, typer.Option(help="Filter atoms m; a block of p x q channels gets m p q.")] = 9,
    block: Annotated[int, typer.Option(help="Channel block k_c; 0 for none.")] = 4,
    block_spatial: Annotated[bool, typer.Option(help="Block the channels of spatial kernels too.")] = True,
    limit_atoms: Annotated[bool, typer.Option(help="No more atoms than a layer has rows.")] = True,
    expansion: Annotated[int | None, typer.Option(help="m_1: every atom over m_1 atoms of its own.")] = None,
    solver: Solver = "pca",
    l1_penalty: L1Penalty = 1e-3,
    rank: Annotated[int, typer.Option(help="Of lora, dora, loha, lokr, hra and hira.")] = 16,
    layers: Annotated[
        str | None, typer.Option(help="resnets, convolutions, attention, blocks, or a regular expression.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="Of prompts from class names, one {} for the name.")
    ] = "a photo of a {}",
    image_size: Size = 256,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Images a step, over all processes.")] = 8,
    accumulation: Annotated[int, typer.Option(help="Parts that a batch is computed in, to save memory.")] = 1,
    optimizer: Annotated[str, typer.Option(help="adamw, adam or soap.")] = "adamw",
    learning_rate: Annotated[float | None, typer.Option(help="Default the paper's: 1e-3, full tuning 5e-6.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-2,
    schedule: Annotated[str, typer.Option(help="Of the rate after warm-up: constant or cosine.")] = "constant",
    min_rate: Annotated[float, typer.Option(help="Learning rate at the end of the cosine.")] = 0.0,
    warmup_steps: Annotated[int, typer.Option(help="Steps of linear warm-up.")] = 0,
    warmup_rate: Annotated[float | None, typer.Option(help="Learning rate of the first step of the warm-up.")] = None,
    clip_norm: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    condition_dropout: Annotated[float, typer.Option(help="Share of prompts left empty, for guidance.")] = 0.1,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the images.")] = False,
    ema_decay: Annotated[
        float | None, typer.Option(help="Draw with an average of the trained weights, such as 0.999.")
    ] = None,
    ema_warmup: Annotated[
        bool, typer.Option("--ema-warmup/--no-ema-warmup", help="At step t its decay is at most t / (t + 9).")
    ] = True,
    mixed_precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory.")] = False,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 500,
    preview_every: Annotated[int, typer.Option(help="Steps between two grids of samples; 0 for none.")] = 1000,
    images: Annotated[int, typer.Option(help="Drawn and compared; 0 for a grid alone.")] = 20000,
    reference_images: Annotated[int, typer.Option(help="Real images that they are compared with, at most.")] = 20000,
    sampling_steps: Annotated[int, typer.Option(help="Of the pipeline's sampler, for each image.")] = 50,
    guidance: Guidance = 7.5,
    sampling_batch: Annotated[int, typer.Option(help="Images drawn at once.")] = 8,
    features: Annotated[
        str, typer.Option(help="inception (FID), a folder of a CLIP or DINO model of transformers, or none.")
    ] = "inception",
    feature_weights: FeatureWeights = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Tune Stable Diffusion on a folder of images, draw, judge, write the record. A rerun resumes.

    On several GPUs: accelerate launch -m filtersub generate-tune ...
    """
    from ..generation.diffusion_run import DiffusionSettings, diffusion_run

    known = {field.name for field in fields(DiffusionSettings)}
    given = {name: _read(name, value) for name, value in stated(context).items() if name in known}
    if block == 0:
        given["block_spatial"] = False
    record = diffusion_run(DiffusionSettings(**given), out, on_progress=None if as_json else Tenths())
    if as_json:
        print_json({"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost})
        return
    name = record.environment.get("distance_name")
    judged = f"{name} {record.metrics['frechet']:.4g}, " if name else ""
    typer.echo(f"{record.label}: {judged}{record.counts['trainable']:,} trained parameters; record in {out}")


def generate(
    pipeline: Pipeline,
    prompts: Annotated[Path, typer.Option(help="Text file, one prompt a line.")],
    out: Annotated[Path, typer.Option(help="Folder of the images.")],
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder that a run left: an adapter or full tuning's UNet; default neither."),
    ] = None,
    image_size: Size = 256,
    steps: Annotated[int, typer.Option(help="Of the sampler.")] = 50,
    guidance: Guidance = 7.5,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 8,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Draw one image a prompt; image n starts from the same noise whatever the adapter."""
    from ..generation.captions import read_prompts
    from ..generation.pipeline import load_pipeline
    from ..generation.sampling import sample_images
    from ..generation.tuned import load_tuned

    texts = read_prompts(prompts)
    loaded = load_pipeline(pipeline, device=chosen_device(device))
    tuned = "" if adapter is None else load_tuned(loaded, adapter)
    options = {"seed": seed, "steps": steps, "guidance": guidance, "size": image_size, "batch_size": batch_size}
    sample_images(loaded, texts, out, identity=f"{pipeline} {tuned}", **options)
    typer.echo(f"{len(texts)} images in {out}")


def distance(
    real: Annotated[Path, typer.Argument(help="Folder of real images; metadata.jsonl there says which count.")],
    images: Annotated[Path, typer.Argument(help="Folder of generated images.")],
    features: Features = "inception",
    feature_weights: FeatureWeights = None,
    resize: Annotated[int | None, typer.Option(help="Bring all images to this many pixels a side first.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the statistics of the real images; a run's is `cache` beside the run."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 50,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Fréchet and kernel distance of two folders of images, with the floor of the real ones."""
    import warnings

    from ..generation.captions import real_images
    from ..metrics import FewImagesWarning, compare, encoder_features, image_folder, inception_features

    sets = real_images(real, resize=resize), image_folder(images, resize=resize)
    place = chosen_device(device)
    if features == "inception":
        extractor = inception_features(feature_weights, device=place)
    else:
        extractor = encoder_features(features, device=place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewImagesWarning)
        found = compare(*sets, extractor, batch_size=batch_size, cache=cache, on_image=None if as_json else Tenths())
    for warning in caught:
        if issubclass(warning.category, FewImagesWarning):
            typer.echo(f"warning: {warning.message}", err=True)
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(found.sentence)


def _read(name: str, value: Any) -> Any:
    """An option as the settings know it: paths as text, no block as None."""
    if name == "block":
        return value or None
    return str(value) if isinstance(value, Path) else value
