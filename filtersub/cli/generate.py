"""``filtersub generate-tune``, ``generate`` and ``distance``: options in, one call, one line out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .console import print_json
from .options import AsJson


class Method(StrEnum):
    NONE = "none"
    FILTER_SUBSPACE = "filter-subspace"
    LORA = "lora"
    FULL = "full"


Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a Stable Diffusion pipeline.")]
Seed = Annotated[int, typer.Option(help="Of noise, order and initial updates.")]
Size = Annotated[int, typer.Option(help="Pixels a side.")]
Features = Annotated[str, typer.Option(help="inception (FID), or a folder of a CLIP or DINO model of transformers.")]
FeatureWeights = Annotated[
    Path | None, typer.Option(help="File of the Inception weights; default torch's cache of downloads.")
]


def generate_tune(
    pipeline: Pipeline,
    data: Annotated[Path, typer.Option(help="Folder of images: one folder a class, or metadata.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: record, adapter, images.")],
    method: Annotated[Method, typer.Option(help="What is trained.")] = Method.FILTER_SUBSPACE,
    atoms: Annotated[int, typer.Option(help="Filter atoms m; a block of p x q channels gets m p q.")] = 9,
    block: Annotated[int, typer.Option(help="Channel block k_c; 0 for none.")] = 4,
    rank: Annotated[int, typer.Option(help="Of LoRA.")] = 16,
    layers: Annotated[
        str | None, typer.Option(help="resnets, convolutions, attention, blocks, or a regular expression.")
    ] = None,
    template: Annotated[str, typer.Option(help="Of prompts from class names.")] = "a photo of a {}",
    image_size: Size = 256,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 5000,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 8,
    accumulation: Annotated[int, typer.Option(help="Parts that a batch is computed in, to save memory.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="Default the paper's: 1e-3, full tuning 5e-6.")] = None,
    ema_decay: Annotated[float | None, typer.Option(help="Of an average of the trained weights.")] = None,
    mixed_precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory.")] = False,
    images: Annotated[int, typer.Option(help="Drawn and compared; 0 for a grid alone.")] = 20000,
    guidance: Annotated[float, typer.Option(help="Weight of the prompt.")] = 7.5,
    features: Features = "inception",
    feature_weights: FeatureWeights = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Tune Stable Diffusion on a folder of images, draw, judge, write the record. A rerun resumes."""
    from ..generation.diffusion_run import DiffusionSettings, diffusion_run

    settings = DiffusionSettings(
        pipeline=pipeline, data=str(data), template=template, method=method.value, atoms=atoms, block=block or None,
        block_spatial=block > 0, rank=rank, layers=layers, image_size=image_size, steps=steps, batch_size=batch_size,
        accumulation=accumulation, learning_rate=learning_rate, ema_decay=ema_decay, mixed_precision=mixed_precision,
        gradient_checkpointing=gradient_checkpointing, images=images, guidance=guidance, features=features,
        feature_weights=None if feature_weights is None else str(feature_weights), seed=seed,
    )  # fmt: skip
    record = diffusion_run(settings, out, on_progress=None if as_json else _tell)
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
    adapter: Annotated[Path | None, typer.Option(help="Folder of an adapter; default the pipeline as it is.")] = None,
    image_size: Size = 256,
    steps: Annotated[int, typer.Option(help="Of the sampler.")] = 50,
    guidance: Annotated[float, typer.Option(help="Weight of the prompt.")] = 7.5,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 8,
    seed: Seed = 0,
) -> None:
    """Draw one image a prompt; image n starts from the same noise whatever the adapter."""
    import torch

    from ..generation.adapters import load_adapter
    from ..generation.captions import read_prompts
    from ..generation.pipeline import load_pipeline
    from ..generation.sampling import sample_images

    texts = read_prompts(prompts)
    loaded = load_pipeline(pipeline, device="cuda" if torch.cuda.is_available() else "cpu")
    if adapter is not None:
        load_adapter(loaded, adapter)
    options = {"seed": seed, "steps": steps, "guidance": guidance, "size": image_size, "batch_size": batch_size}
    sample_images(loaded, texts, out, identity=str(adapter), **options)
    typer.echo(f"{len(texts)} images in {out}")


def distance(
    real: Annotated[Path, typer.Argument(help="Folder of real images.")],
    images: Annotated[Path, typer.Argument(help="Folder of generated images.")],
    features: Features = "inception",
    feature_weights: FeatureWeights = None,
    resize: Annotated[int | None, typer.Option(help="Bring all images to this many pixels a side first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fréchet and kernel distance of two folders of images, with the floor of the real ones."""
    import warnings

    from ..metrics import FewImagesWarning, compare, encoder_features, image_folder, inception_features

    extractor = inception_features(feature_weights) if features == "inception" else encoder_features(features)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewImagesWarning)
        found = compare(image_folder(real, resize=resize), image_folder(images, resize=resize), extractor)
    for warning in caught:
        if issubclass(warning.category, FewImagesWarning):
            typer.echo(f"warning: {warning.message}", err=True)
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(found.sentence)


def _tell(what: str, done: int, total: int) -> None:
    """A line at every tenth."""
    if done == total or done * 10 // total > (done - 1) * 10 // total:
        typer.echo(f"{what}: {done:,} of {total:,}")
