"""The embedded case: a small unconditional UNet of 8 x 8 digits that draws 0 to 4 learns 5 to 9 by one method, and a
classifier whose features judge its images.

Both files come with the package; ``tests/digits_assets.py`` makes them again.
"""

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import digits_order
from ..experiment.log import chosen_trackers
from ..files import make_folder
from ..folder_lock import locks
from ..metrics import FeatureExtractor, FewImagesWarning, ImageSet, compare, image_tensor, module_features
from ..metrics.statistics import FEWEST
from ..records import Record
from ..settings import check_kind, check_whole
from ..training import CHECKPOINT_FILE
from ..weight_file import load_weight_file
from .denoising import fit_denoiser
from .record import finished, log_step, tracked, write_run
from .sampling import spaced_ddim
from .settings import DenoisingSet, GenerationSettings
from .tuned import inject_method

ASSETS = Path(__file__).resolve().parent / "assets"
UNET_FILE, CLASSIFIER_FILE = "digits_unet_0to4.safetensors", "digits_classifier.safetensors"
FIRST, LAST = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
FEATURES = "digits-classifier"
_TRAIN = 1000
#: by what is tuned; chosen on the training images of 5 to 9 (docs/generation.md)
RATES = {"none": 1e-2, "spatial": 1e-1, "blocks": 3e-2, "spatial blocks": 1e-2, "lora": 1e-2, "full": 3e-3}


def digits_unet() -> nn.Module:
    """The architecture, with torch's own random weights: UNet2DModel, 8 x 8 grey images, 32 and 64 channels."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=16,
    )


def base_unet() -> nn.Module:
    """The network trained on the digits 0 to 4 (stored in half precision), as float32."""
    unet = digits_unet()
    unet.load_state_dict({k: v.float() for k, v in load_weight_file(ASSETS / UNET_FILE, layout="torch").items()})
    return unet.eval()


def noise_schedule() -> Any:
    """The training scheduler: 1,000 steps, squared cosine (Nichol and Dhariwal, 2021)."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True)


def digits(classes: Sequence[int], *, test: bool = False) -> Tensor:
    """Grey digits (n, 1, 8, 8) float in -1..1 of some classes: of the 1,000 training images, or of the 797 others.

    The split is that of data.load_data.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = digits_order(len(found.target), 0)
    part = (order[_TRAIN:] if test else order[:_TRAIN]).numpy()
    part = part[[int(found.target[place]) in classes for place in part]]
    return torch.from_numpy(found.images[part]).float()[:, None] / 8 - 1


def as_images(pixels: Tensor, source: str) -> ImageSet:
    """(n, 1, 8, 8) in -1..1 as uint8 images; values outside are cut off."""
    return image_tensor(((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), source)


class DigitsClassifier(nn.Module):
    """Three convolutions and 32 features before the classes: small enough that 400 images fill their covariance."""

    width = 32

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(64 * 16, self.width), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(self.width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 8, 8) in -1..1 to logits (n, 10)."""
        return self.classifier(self.body(images))


def digits_classifier() -> DigitsClassifier:
    """The classifier that comes with the package, trained on all ten digits of the 1,000 training images."""
    classifier = DigitsClassifier()
    classifier.load_state_dict(load_weight_file(ASSETS / CLASSIFIER_FILE, layout="torch"))
    return classifier.eval()


def digits_features() -> FeatureExtractor:
    """Its 32 features, divided by their root mean square over the training images.

    The Fréchet distance in them is named after them: it is no FID.
    """
    classifier = digits_classifier()
    with torch.no_grad():
        scale = classifier.body(digits(range(10))).square().mean().sqrt()

    def compute(images: Tensor) -> Tensor:
        return classifier.body(images[:, :1].float() / 127.5 - 1) / scale

    return module_features(FEATURES, classifier, DigitsClassifier.width, compute)


@torch.no_grad()
def sample_digits(unet: nn.Module, count: int, *, seed: int = 0, steps: int = 25, batch_size: int = 250) -> Tensor:
    """Images (count, 1, 8, 8) in -1..1 by DDIM (Song et al., 2021) from noise that depends on ``seed`` alone.

    Raises FiltersubError unless ``steps`` is in 1..1000.
    """
    sampler, times = spaced_ddim(noise_schedule().config, steps)
    noise = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    done = []
    for part in noise.split(batch_size):
        for place, step in zip(sampler.timesteps, times, strict=True):
            part = sampler.step(unet(part, step).sample, place, part).prev_sample
        done.append(part)
    return torch.cat(done)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DigitsFields:
    """The defaults of a run on the digits."""

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


@dataclass(frozen=True, kw_only=True, init=False, repr=False)
class DigitsSettings(GenerationSettings, flat=(DigitsFields, GenerationSettings.FLAT)):
    """A run on the digits; see GenerationSettings. ``learning_rate`` None takes RATES.

    ``images`` are drawn and compared with the 389 test images of 5 to 9; ``sampling_steps`` of DDIM; ``warmup_steps``
    None is 20, or all steps but the last.
    """

    def _derived(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        check_whole("steps", flat["steps"], 1)
        found = super()._derived(flat)
        return found if flat["warmup_steps"] is not None else {**found, "warmup_steps": min(20, flat["steps"] - 1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("sampling_steps", self.sampling_steps, 1, 1000)
        check_whole("images", self.images, FEWEST)

    def _usual_rate(self, flat: Mapping[str, Any]) -> float:
        if self.method != "filter-subspace":
            return RATES.get(self.method, RATES["lora"])
        return RATES["spatial" if flat["block"] is None else "spatial blocks" if flat["block_spatial"] else "blocks"]


@locks("out")
def digits_run(
    settings: DigitsSettings, out: str | os.PathLike[str], *, log_with: str | Iterable[str] | None = None
) -> Record:
    """Tune, draw, judge, and write the record into ``out``; a finished run of the same settings is read back.

    Metrics: frechet and kernel (distance of the images from real test digits 5 to 9, in the features named in the
    record's environment), their floors between halves of the test digits, and training_frechet, training_kernel: how
    far the real training digits are from the test digits, which no honest method beats by much. ``log_with`` as
    in experiment.tune.
    """
    check_kind("settings", settings, DigitsSettings)
    folder = make_folder(out)
    done = finished(folder, settings)
    if done is not None:
        return done
    trackers = chosen_trackers(log_with)
    began = time.perf_counter()
    unet = base_unet()
    injected = inject_method(unet, settings)
    with tracked(trackers, folder, settings, injected.trainable) as log:
        result = None
        if settings.method != "none":
            data, told = DenoisingSet(digits(LAST)), partial(log_step, log)
            result = fit_denoiser(unet, noise_schedule(), data, settings.training, folder=folder, on_step=told)
        extractor, real = digits_features(), as_images(digits(LAST, test=True), "test digits 5 to 9")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewImagesWarning)
            limit = compare(real, as_images(digits(LAST), "training digits 5 to 9"), extractor)

        def draw() -> ImageSet:
            pixels = sample_digits(unet, settings.images, seed=settings.seed, steps=settings.sampling_steps)
            return as_images(pixels, "drawn digits")

        record = write_run(
            folder,
            settings,
            "digits 5 to 9",
            unet,
            injected,
            result,
            began,
            draw=draw,
            compare=lambda drawn: compare(real, drawn, extractor),
            metrics={"training_frechet": limit.frechet, "training_kernel": limit.kernel},
        )
        log(record.metrics, settings.training.steps)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return record
