"""How long a part of the paper takes on a GPU, estimated from its numbers of steps and images. Nothing is timed."""

from dataclasses import dataclass
from functools import cache
from math import ceil

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..data.catalogue import catalogue
from ..parameters import architecture
from ..printable import counted
from .chosen import choose, tune_settings
from .readings import Part

#: operations a second that are taken to be sustained: a third of the 312e12 of an A100 in bfloat16
SUSTAINED = 100e12
_BACKWARD = 2  # times the forward pass: the gradients of inputs and of weights
#: of Table 3: images that are drawn for each network, calls of the network for each (50 steps with guidance), images a
#: step; what the paper does not state is as in generation.DiffusionSettings
_DRAWN, _CALLS, _STEPS, _BATCH = 20_000, 100, 5_000, 8


@dataclass(frozen=True)
class Effort:
    """What running a part once at each seed takes."""

    runs: int  # trained networks, and untuned ones that are judged
    steps: int  # of the optimiser, over all runs
    images: int  # training images that pass forwards and backwards, over all runs
    drawn: int  # images that are generated
    flops: float  # of all of it, a multiplication and an addition being two; full tuning is taken for every method

    @property
    def gpu_hours(self) -> float:
        """At SUSTAINED operations a second."""
        return self.flops / SUSTAINED / 3600

    @property
    def sentence(self) -> str:
        drawn = f", {counted(self.drawn, 'image')} drawn" if self.drawn else ""
        takes = f"about {self.gpu_hours:,.0f} GPU hours at {SUSTAINED / 1e12:.0f} TFLOP/s"
        return f"{counted(self.runs, 'run')}, {self.steps:,} steps on {self.images:,} images{drawn}: {takes}"


def effort_of(part: Part, reading: str, seeds: int = 1) -> Effort:
    """Steps, images and operations of all runs of a part, each at ``seeds`` seeds.

    Decomposition, reading of images and judging of classifiers are left out.
    """
    if part.name == "table3":
        return _table3(part, seeds)
    runs = steps = images = 0
    for data in part.data:
        described = catalogue()[data]
        for run in part.runs:
            for point in part.points(run):
                settings = tune_settings(choose(reading, f"{part.name}/{run}"), {**point, "data": data})
                sets = [described.train]
                if settings.learning_rate == "choose":
                    sets += [described.train - described.validation] * len(settings.candidate_rates)
                runs += 1
                epochs, batch_size = settings.training.epochs, settings.training.batch_size
                steps += sum(epochs * ceil(n / batch_size) for n in sets)
                images += sum(epochs * n for n in sets)
    forward = forward_flops(part.model, 224)
    return Effort(runs * seeds, steps * seeds, images * seeds, 0, images * seeds * forward * (1.0 + _BACKWARD))


@cache
def forward_flops(model: str, pixels: int) -> int:
    """Operations of one image's forward pass through a classifier, by torch's counter on shapes alone."""
    return _counted(architecture(model, None), torch.empty(1, 3, pixels, pixels, device="meta"))


def _table3(part: Part, seeds: int) -> Effort:
    """The UNet alone, on the latents of 256 x 256 images and 77 embedded words."""
    networks = len(part.data) * len(part.runs)
    trained = networks - len(part.data)  # the untuned network is not trained
    unet = architecture(part.model, None)
    latents, words = torch.empty(1, 4, 32, 32, device="meta"), torch.empty(1, 77, 768, device="meta")
    forward = _counted(unet, latents, torch.zeros(1, device="meta"), words)
    images, drawn = trained * _STEPS * _BATCH * seeds, networks * _DRAWN * seeds
    flops = forward * (images * (1.0 + _BACKWARD) + drawn * _CALLS)
    return Effort(networks * seeds, trained * _STEPS * seeds, images, drawn, flops)


def _counted(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())
