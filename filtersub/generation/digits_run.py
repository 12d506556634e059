"""The embedded demonstration: a UNet that draws 0 to 4 learns 5 to 9 by one method, judged beside real digits."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from ..files import make_folder
from ..folder_lock import locks
from ..metrics import FewImagesWarning, compare
from ..metrics.statistics import FEWEST
from ..records import Record
from ..settings import check_whole
from ..training import CHECKPOINT_FILE
from .denoising import fit_denoiser
from .digits import LAST, as_images, base_unet, digits, digits_features, noise_schedule, sample_digits
from .methods import inject_method
from .record import ADAPTER_FOLDER, finished, write_run
from .settings import DenoisingSet, GenerationSettings
from .timesteps import check_number_of_steps
from .tuned import save_tuned

#: by what is tuned; chosen on the training images of 5 to 9 (docs/generation.md)
RATES = {"none": 1e-2, "spatial": 1e-1, "blocks": 3e-2, "spatial blocks": 1e-2, "lora": 1e-2, "full": 3e-3}


@dataclass(frozen=True, kw_only=True)
class DigitsSettings(GenerationSettings):
    """A run on the digits; see GenerationSettings. ``learning_rate`` None takes RATES.

    ``images`` are drawn and compared with the 389 test images of 5 to 9; ``sampling_steps`` of DDIM; ``warmup_steps``
    None is 20, or all steps but the last.
    """

    block: int | None = None
    block_spatial: bool = False
    rank: int = 4
    layers: str | None = "blocks"
    steps: int = 300
    batch_size: int = 32
    warmup_steps: int | None = None
    schedule: str = "cosine"
    mixed_precision: str = "no"
    images: int = 500
    sampling_steps: int = 25

    def __post_init__(self) -> None:
        if self.warmup_steps is None:
            check_whole("steps", self.steps, 1)
            object.__setattr__(self, "warmup_steps", min(20, self.steps - 1))
        super().__post_init__()
        check_number_of_steps(self.sampling_steps)
        check_whole("images", self.images, FEWEST)

    @property
    def usual_rate(self) -> float:
        if self.method != "filter-subspace":
            return RATES.get(self.method, RATES["lora"])
        return RATES["spatial" if self.block is None else "spatial blocks" if self.block_spatial else "blocks"]


@locks("out")
def digits_run(
    settings: DigitsSettings,
    out: str | os.PathLike[str],
    *,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> Record:
    """Tune, draw, judge, and write the record into ``out``; a finished run of the same settings is read back.

    Metrics: frechet and kernel (distance of the images from real test digits 5 to 9, in the features named in the
    record's environment), their floors between halves of the test digits, and training_frechet, training_kernel: how
    far the real training digits are from the test digits, which no honest method beats by much.
    """
    folder = make_folder(out)
    done = finished(folder, settings)
    if done is not None:
        return done
    began = time.perf_counter()
    unet = base_unet()
    injected = inject_method(unet, settings.tuned)
    result = None
    if settings.method != "none":
        data = DenoisingSet(digits(LAST))
        result = fit_denoiser(unet, noise_schedule(), data, settings.training, folder=folder, on_step=on_step)
    unet.eval()
    saved = save_tuned(unet, settings.method, folder / ADAPTER_FOLDER)
    sampled = time.perf_counter()
    drawn = sample_digits(unet, settings.images, seed=settings.seed, steps=settings.sampling_steps)
    sampling_seconds = time.perf_counter() - sampled
    extractor, real = digits_features(), as_images(digits(LAST, test=True), "test digits 5 to 9")
    comparison = compare(real, as_images(drawn, "drawn digits"), extractor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewImagesWarning)
        limit = compare(real, as_images(digits(LAST), "training digits 5 to 9"), extractor)
    record = write_run(
        folder,
        settings=settings,
        data="digits 5 to 9",
        injected=injected,
        result=result,
        comparison=comparison,
        first=as_images(drawn[:16], "first").tensor,
        saved_bytes=saved,
        metrics={"training_frechet": limit.frechet, "training_kernel": limit.kernel},
        cost={"sampling_seconds": sampling_seconds, "wall_seconds": time.perf_counter() - began},
    )
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return record
