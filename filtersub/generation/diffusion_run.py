"""Stable Diffusion tuned on one data set by one method: latents, training, adapter, samples, distance, record; and
Table 3, which is such runs.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data.catalogue import place
from ..errors import FiltersubError
from ..experiment.log import Log, chosen_trackers
from ..files import as_path, make_folder
from ..folder_lock import locks
from ..methods import Injected
from ..metrics import (
    Comparison,
    ImageSet,
    check_enough,
    compare,
    encoder_features,
    image_files,
    image_folder,
    inception_features,
)
from ..paper import check_reading, find_part, method_settings
from ..processes import keep_to_quota
from ..records import RECORD_FILE, Record, read_record
from ..setting_fields import DiffusionFields, DrawingFields, MethodFields, described
from ..settings import MOST_PIXELS, check_kind, check_number, check_whole
from ..training import CHECKPOINT_FILE
from ..training.accelerator import processes
from .captions import captioned_images, check_template
from .denoising import DenoisingResult, fit_denoiser
from .pipeline import encode_images, load_pipeline, training_scheduler
from .record import GRID_IMAGES, finished, log_step, tracked, write_run
from .sampling import check_sampling, sample_images, save_png
from .settings import GenerationSettings
from .tables import RUNS, paper_data
from .tuned import inject_method

Progress = Callable[[str, int, int], None]
FEATURES = ("inception", "none")


@described
@dataclass(frozen=True, kw_only=True, init=False, repr=False)
class DiffusionSettings(DrawingFields, GenerationSettings, flat=(DiffusionFields, GenerationSettings.FLAT)):
    """Everything that determines a run; the defaults are the paper's (its section 5.4), where it says.

    The paper draws and compares 20,000 images of 256 pixels; it states neither ``sampling_steps`` nor ``guidance``,
    which are of the pipeline's own scheduler.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "reference_images", "sampling_steps", "sampling_batch"):
            check_whole(name, getattr(self, name), 1, MOST_PIXELS if name == "image_size" else None)
        check_number("guidance", self.guidance)
        check_template(self.template)


@locks("out")
def diffusion_run(
    settings: DiffusionSettings,
    out: str | os.PathLike[str],
    *,
    on_progress: Progress | None = None,
    log_with: str | Iterable[str] | None = None,
) -> Record:
    """Tune, save, draw, judge, and write the record into ``out``.

    Latents and statistics of the real images are cached in ``cache`` beside ``out``, so that the methods of one data
    set share them. A finished run of the same settings is read back, an interrupted one goes on after its last
    checkpoint or image. In a run of several processes (accelerate launch) the first one draws and writes.
    ``log_with`` as in experiment.tune.

    Raises FiltersubError on bad settings, trackers, pipelines, data and features, before anything is trained.
    """
    check_kind("settings", settings, DiffusionSettings)
    keep_to_quota()
    folder = make_folder(out)
    done = finished(folder, settings)
    if done is not None:
        return done
    trackers = chosen_trackers(log_with)
    began = time.perf_counter()
    run = _Run(settings, folder, on_progress or (lambda what, done, total: None))
    injected = inject_method(run.pipeline.unet, settings)
    run.encode()
    with tracked(trackers, folder, settings, injected.trainable) as log:
        result = run.train(log)
        if not processes().is_main_process:
            return _awaited(folder)
        record = run.evaluate(injected, result, began)
        log(record.metrics, settings.training.steps)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return record


class _Run:
    """The data and the pipeline of a run, looked at before anything is written; then its steps."""

    def __init__(self, settings: DiffusionSettings, folder: Path, tell: Progress) -> None:
        self.settings, self.folder, self.tell = settings, folder, tell
        device, self.cache = processes().device, folder.parent / "cache"
        self.data = captioned_images(settings.data, template=settings.template)
        self.compare = self._comparison(device)
        self.pipeline = load_pipeline(settings.pipeline, device=device)
        self.sampling = {
            "seed": settings.seed * 1_000_000,
            "steps": settings.sampling_steps,
            "guidance": settings.guidance,
            "size": settings.image_size,
            "batch_size": settings.sampling_batch,
        }
        check_sampling(self.pipeline, **self.sampling)

    def _comparison(self, device: torch.device) -> Callable[[ImageSet], Comparison] | None:
        """Compares images with those that the network is tuned on; None where no distance is asked for.

        Made first: too few images and missing weights should not be found after hours of training.
        """
        settings, data = self.settings, self.data
        if settings.features == "none" or settings.images == 0:
            return None
        real = image_files(data.files, str(data.root), resize=settings.image_size, at_most=settings.reference_images)
        check_enough(real)
        if settings.features == "inception":
            extractor = inception_features(settings.feature_weights, device=device)
        else:
            extractor = encoder_features(settings.features, device=device)

        def told(name: str, done: int, total: int) -> None:
            self.tell(f"features of {name}", done, total)

        return lambda drawn: compare(real, drawn, extractor, cache=self.cache, on_image=told)

    def encode(self) -> None:
        """The images as latents, which the cache keeps."""
        told, size = partial(self.tell, "encoding"), self.settings.image_size
        with processes().main_process_first():  # the others read what the first has cached
            self.latents = encode_images(self.pipeline, self.data, size=size, cache=self.cache, on_image=told)

    def train(self, log: Log) -> DenoisingResult | None:
        settings, previews = self.settings, self.folder / "previews"
        if settings.method == "none":
            return None

        def on_step(row: dict[str, float]) -> None:
            log_step(log, row)
            self.tell("training", int(row["step"]), settings.training.steps)

        def preview(step: int) -> None:
            # of their own folder each: samples of one step are not those of another
            images = self.draw(4, previews / f"step-{step}", step, lambda *_: None)
            save_png(torch.cat(list(next(images.batches())), dim=2), previews / f"step-{step}.png")

        return fit_denoiser(
            self.pipeline.unet,
            training_scheduler(self.pipeline),
            self.latents,
            settings.training,
            folder=self.folder,
            on_step=on_step,
            on_preview=preview,
        )

    def evaluate(self, injected: Injected, result: DenoisingResult | None, began: float) -> Record:
        """Save what was tuned, draw with it, compare, and write the record."""
        settings, unet, data = self.settings, self.pipeline.unet, Path(self.settings.data).name
        count = max(settings.images, GRID_IMAGES)
        return write_run(
            self.folder,
            settings,
            data,
            unet,
            injected,
            result,
            began,
            draw=lambda: self.draw(count, self.folder / "images", settings.training.steps, self.tell),
            compare=self.compare,
            metrics={},
        )

    def draw(self, count: int, folder: Path, step: int, tell: Progress) -> ImageSet:
        """Images of the network after ``step``; its settings tell them from those of another, since a longer run may go
        on where a shorter one had drawn."""
        settings = self.settings
        made = {name: getattr(settings, name) for name in MethodFields.__dataclass_fields__} | asdict(settings.training)
        made |= {"pipeline": settings.pipeline, "steps": step}
        identity = json.dumps({k: v for k, v in made.items() if k not in ("checkpoint_every", "preview_every")})
        prompts, told = self.data.spread(count), partial(tell, "drawing")
        sample_images(self.pipeline, prompts, folder, **self.sampling, identity=identity, on_image=told)
        return image_folder(folder)


def _awaited(folder: Path) -> Record:
    """The record that the first process will write: drawing takes longer than a barrier of GPUs would wait."""
    while not (folder / RECORD_FILE).exists():
        time.sleep(0.5)
    return read_record(folder)


def table_runs(
    out: str | os.PathLike[str],
    *,
    pipeline: str | None,
    data_dir: str | os.PathLike[str] | None,
    datasets: Sequence[str] | None = None,
    reading: str = "text",
    methods: Sequence[str] = ("none", "full", "lora", "filter-subspace"),
    **settings: Any,
) -> dict[Path, Record]:
    """Records by folder ``out/DATA/METHOD``; none without a pipeline. Finished runs are read back.

    Parameters
    ----------
    data_dir : holds a folder a data set; datasets : their names, default those of Table 3 that are there
    reading : of the paper, which says what full tuning, LoRA and the atoms are; a relative ``data_dir`` or ``pipeline``
        that is not there is looked for below the data root
    settings : other fields of DiffusionSettings; they win over the reading's

    Raises FiltersubError when a pipeline comes without data, or a named data set is not there.
    """
    if pipeline is None:
        return {}
    if data_dir is None:
        raise FiltersubError("a pipeline is tuned on data: name the folder that holds the data sets (data_dir)")
    root = place(str(data_dir))
    pipeline = str(place(pipeline)) if place(pipeline).is_dir() else pipeline
    methods_of = {method: table_method(method, reading) for method in methods}
    names = [name for name in paper_data() if (root / name).is_dir()] if datasets is None else list(datasets)
    missing = [name for name in names if not (root / name).is_dir()]
    if missing or not names:
        raise FiltersubError(f"{root} has no folder {', '.join(missing) or 'of a data set of Table 3'}")
    made = {}
    for name in names:
        for method in methods:
            folder = make_folder(as_path(out) / name / method)
            own = {**methods_of[method], **settings}
            asked = DiffusionSettings(pipeline=pipeline, data=str(root / name), **own)
            made[folder] = diffusion_run(asked, folder)
    return made


def table_method(method: str, reading: str) -> dict[str, Any]:
    """Settings of a row of the table by a reading; other methods are as they are."""
    part, run = find_part("table3"), RUNS.get(method, method)
    return method_settings(part, run, check_reading(reading)) if run in part.runs else {"method": method}
