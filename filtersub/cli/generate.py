"""``filtersub generate-tune``, ``generate`` and ``distance``: options in, one call, one line out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import check_name
from ..printable import counted
from ..setting_fields import OF_GENERATION, DiffusionFields
from ..settings import MOST, MOST_PIXELS, check_number, check_whole
from .console import Tenths, print_json, say
from .options import AsJson, Device, LogWith, chosen_device, stated, with_settings

Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a Stable Diffusion pipeline.")]


@with_settings(DiffusionFields)
def generate_tune(
    context: typer.Context,
    pipeline: Pipeline,
    out: Annotated[Path, typer.Option(help="Folder of the run: record, adapter, images.")],
    log_with: LogWith = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Tune Stable Diffusion on a folder of images, draw, judge, write the record. A rerun resumes.

    On several GPUs: accelerate launch -m filtersub generate-tune ...
    """
    from ..progress import waiting

    check_name("method", options["method"], OF_GENERATION)
    with waiting("loading"):  # after this check: the imports take seconds
        from ..generation.diffusion_run import DiffusionSettings, diffusion_run

    given = {name: value for name, value in options.items() if name in stated(context)}
    if options["block"] == 0:
        given |= {"block": None, "block_spatial": False}
    settings = DiffusionSettings(pipeline=pipeline, **given)
    record = diffusion_run(settings, out, on_progress=None if as_json else Tenths(), log_with=log_with)
    if as_json:
        print_json({"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost})
        return
    name = record.environment.get("distance_name")
    judged = f"{name} {record.metrics['frechet']:.4g}, " if name else ""
    say(f"{record.label}: {judged}{record.counts['trainable']:,} trained parameters; record in {out}")


def generate(
    pipeline: Pipeline,
    prompts: Annotated[Path, typer.Option(help="Text file, one prompt a line.")],
    out: Annotated[Path, typer.Option(help="Folder of the images.")],
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder that a run left: an adapter or full tuning's UNet; default neither."),
    ] = None,
    image_size: Annotated[int, typer.Option(help="Pixels a side.")] = 256,
    steps: Annotated[int, typer.Option(help="Of the sampler.")] = 50,
    guidance: Annotated[float, typer.Option(help="Weight of the prompt; 1 is none.")] = 7.5,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 8,
    device: Device = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
) -> None:
    """Draw one image a prompt; image n starts from the same noise whatever the adapter."""
    from ..progress import waiting

    check_whole("image_size", image_size, 1, MOST_PIXELS)
    check_whole("steps", steps, 1)
    check_whole("batch_size", batch_size, 1, MOST)
    check_whole("seed", seed, 0, 2**62)
    check_number("guidance", guidance)
    with waiting("loading"):  # after these checks: the imports take seconds
        from ..generation.captions import read_prompts
        from ..generation.pipeline import load_pipeline
        from ..generation.sampling import sample_images
        from ..generation.tuned import load_tuned
        from ..processes import keep_to_quota

    keep_to_quota()
    texts = read_prompts(prompts)
    loaded = load_pipeline(pipeline, device=chosen_device(device))
    tuned = "" if adapter is None else load_tuned(loaded, adapter)
    options = {"seed": seed, "steps": steps, "guidance": guidance, "size": image_size, "batch_size": batch_size}
    sample_images(loaded, texts, out, identity=f"{pipeline} {tuned}", **options)
    say(f"{counted(len(texts), 'image')} in {out}")


def distance(
    real: Annotated[Path, typer.Argument(help="Folder of real images; metadata.jsonl there says which count.")],
    images: Annotated[Path, typer.Argument(help="Folder of generated images.")],
    features: Annotated[
        str, typer.Option(help="inception (FID), or a folder of a CLIP or DINO model of transformers.")
    ] = "inception",
    feature_weights: Annotated[
        Path | None, typer.Option(help="File of the Inception weights; default torch's cache of downloads.")
    ] = None,
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
    from ..progress import waiting

    check_whole("batch_size", batch_size, 1, MOST)
    if resize is not None:
        check_whole("resize", resize, 1, MOST_PIXELS)
    with waiting("loading"):  # after these checks: the imports take seconds
        from ..generation.captions import real_images
        from ..metrics import compare, encoder_features, image_folder, inception_features
        from ..processes import keep_to_quota

    keep_to_quota()
    sets = real_images(real, resize=resize), image_folder(images, resize=resize)
    place = chosen_device(device)
    if features == "inception":
        extractor = inception_features(feature_weights, device=place)
    else:
        extractor = encoder_features(features, device=place)
    found = compare(*sets, extractor, batch_size=batch_size, cache=cache, on_image=None if as_json else Tenths())
    if as_json:
        print_json(found.as_dict())
    else:
        say(found.sentence)
