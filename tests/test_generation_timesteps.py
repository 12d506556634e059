"""Samplers walk from noise to an image, as DDIM written out by hand does; numbers they cannot walk are refused."""

import math

import pytest
import torch

pytest.importorskip("diffusers")
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler

from filtersub.errors import FiltersubError
from filtersub.generation import DenoisingConfig
from filtersub.generation.diffusion_run import DiffusionSettings
from filtersub.generation.digits_run import DigitsSettings, noise_schedule, sample_digits
from filtersub.generation.sampling import check_sampling, check_sampling_steps, spaced_ddim

MEAN, SPREAD = 0.3, 0.2


def cosine_alphas(times=1000):
    """Products of 1 - beta of the squared cosine (Nichol and Dhariwal, 2021, eq. 17), each beta at most 0.999."""
    level = [math.cos((t / times + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(times + 1)]
    found, product = [], 1.0
    for t in range(times):
        product *= 1 - min(1 - level[t + 1] / level[t], 0.999)
        found.append(product)
    return torch.tensor(found, dtype=torch.float64)


def noise_of_a_gaussian(images, alpha):
    """What the best network predicts where the images are normal with mean MEAN and deviation SPREAD."""
    variance = alpha * SPREAD**2 + 1 - alpha
    return (1 - alpha) ** 0.5 * (images - alpha**0.5 * MEAN) / variance


def ddim_by_hand(noise, steps, times=1000):
    """DDIM (Song et al., 2021, eq. 12, no noise added): from each chosen time to the next, the last to no noise."""
    alphas = cosine_alphas(times)
    chosen = [math.floor(times * place / steps + 0.5) - 1 for place in range(steps, 0, -1)]
    images = noise.double()
    for place, time in enumerate(chosen):
        here = alphas[time]
        there = alphas[chosen[place + 1]] if place + 1 < steps else torch.tensor(1.0, dtype=torch.float64)
        predicted = noise_of_a_gaussian(images, here)
        clean = ((images - (1 - here) ** 0.5 * predicted) / here**0.5).clamp(-1, 1)
        images = there**0.5 * clean + (1 - there) ** 0.5 * predicted
    return images


class GaussianNetwork(torch.nn.Module):
    """The same network as a UNet is called, told the time alone."""

    def __init__(self):
        super().__init__()
        self.alphas, self.asked = cosine_alphas(), []

    def forward(self, images, time):
        self.asked.append(int(time))

        class Found:
            sample = noise_of_a_gaussian(images.double(), self.alphas[int(time)]).float()

        return Found


# divisors of 1000, numbers that are none, and those for which the library's own times end below 0 (61, 103)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 25, 30, 61, 103, 250, 333, 600, 999, 1000])
def test_digits_are_drawn_as_ddim_is_written(steps):
    network = GaussianNetwork()
    drawn = sample_digits(network, 40, seed=3, steps=steps, batch_size=25)
    noise = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn.double(), ddim_by_hand(noise, steps), atol=3e-4, rtol=0)
    times = network.asked[:steps]
    assert times == sorted(set(times), reverse=True)
    assert times[0] == 999
    if steps >= 250:  # enough of them give the distribution that the network was made for, and no noise beside it
        assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.03)
        assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)


@pytest.mark.parametrize("steps", [1, 4, 25, 40, 200])
def test_where_the_number_divides_it_is_the_librarys_own_walk(steps):
    config = noise_schedule().config
    theirs = DDIMScheduler.from_config(config, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    ours, times = spaced_ddim(config, steps)
    assert times == theirs.timesteps.tolist()
    one = two = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for place, time in zip(ours.timesteps, times, strict=True):
        predicted = noise_of_a_gaussian(one, cosine_alphas()[time].float())
        one = ours.step(predicted, place, one).prev_sample
        two = theirs.step(predicted, time, two).prev_sample
        assert torch.equal(one, two)


STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PNDM = {**STABLE, "skip_prk_steps": True, "steps_offset": 1}


@pytest.mark.parametrize(
    ("kind", "config", "right", "wrong"),
    [
        (PNDMScheduler, PNDM, (1000 - 1, 50, 25, 30, 2, 70), (1000, 600, 1)),
        (DDIMScheduler, STABLE, (50, 20, 999), (600, 1, 130)),
        (DDIMScheduler, {**STABLE, "timestep_spacing": "trailing"}, (1, 25, 50, 1000), (30, 60, 600, 61)),
        (DDIMScheduler, {**STABLE, "timestep_spacing": "linspace"}, (1000,), (50, 25, 600)),
        (EulerDiscreteScheduler, {**STABLE, "timestep_spacing": "linspace"}, (25, 30, 600), ()),
        (EulerDiscreteScheduler, {**STABLE, "timestep_spacing": "trailing"}, (25, 30, 600), ()),
        (UniPCMultistepScheduler, {**STABLE, "timestep_spacing": "leading"}, (25, 30), (600, 1000)),
    ],
)
def test_a_pipelines_sampler_is_asked_before_the_training(kind, config, right, wrong):
    scheduler = kind(**config)
    for steps in right:
        check_sampling_steps(scheduler, steps)
    for steps in wrong:
        with pytest.raises(FiltersubError, match=rf"{steps} does not suit {kind.__name__}: .*; (take|set)"):
            check_sampling_steps(scheduler, steps)
    for steps, message in (
        (0, "at least 1"),
        (-1, "at least 1"),
        (1001, "at most 1000"),
        (2.5, "whole"),
        (True, "whole"),
    ):
        with pytest.raises(FiltersubError, match=f"sampling_steps must be .*{message}"):
            check_sampling_steps(scheduler, steps)


def test_the_numbers_named_instead_work():
    scheduler = DDIMScheduler(**STABLE, timestep_spacing="trailing")
    with pytest.raises(FiltersubError, match=r"goes back by 33 where its times are 33\.33 apart.*take 25 or 20$"):
        check_sampling_steps(scheduler, 30)
    for steps in (25, 20):
        check_sampling_steps(scheduler, steps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_steps": 0}, "sampling_steps must be at least 1, got 0"),
        ({"sampling_steps": -1}, "sampling_steps must be at least 1"),
        ({"sampling_steps": 1001}, "sampling_steps must be at most 1000"),
        ({"sampling_steps": 2.5}, "sampling_steps must be a whole number, got 2.5"),
        ({"sampling_steps": "25"}, "sampling_steps must be a whole number, got '25'"),
        ({"images": 3}, "images must be at least 4, got 3"),
        ({"images": 0}, "images must be at least 4"),
        ({"images": True}, "images must be a whole number"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 2**31}, "seed must be at most"),
        ({"layers": "("}, "is not a regular expression"),
        ({"steps": 10.0}, "steps must be a whole number"),
    ],
)
def test_settings_of_the_digits_are_refused_before_anything_is_trained(settings, message):
    with pytest.raises(FiltersubError, match=message):
        DigitsSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_steps": 0}, "sampling_steps must be at least 1"),
        ({"sampling_batch": 0}, "sampling_batch must be at least 1"),
        ({"guidance": math.nan}, "guidance must be a finite number, got nan"),
        ({"guidance": "7"}, "guidance must be a finite number, got '7'"),
        ({"images": 2.0}, "images must be a whole number"),
        ({"reference_images": 0}, "reference_images must be at least 1"),
        ({"seed": 2**40}, "seed must be at most"),
        ({"layers": "[a"}, "is not a regular expression"),
    ],
)
def test_settings_of_a_pipeline_are_refused_before_anything_is_trained(settings, message):
    with pytest.raises(FiltersubError, match=message):
        DiffusionSettings(pipeline="p", data="d", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": math.nan}, "weight_decay must be a finite number"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"clip_norm": 0}, "clip_norm must be a positive number"),
        ({"clip_norm": math.nan}, "clip_norm must be a positive number"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number"),
        ({"warmup_steps": 1.5}, "warmup_steps must be a whole number"),
        ({"accumulation": 3, "batch_size": 8}, "cannot be split"),
    ],
)
def test_settings_of_a_training_are_refused_at_once(settings, message):
    with pytest.raises(FiltersubError, match=message):
        DenoisingConfig(**settings)


class Drawn:
    """As much of a pipeline as the check looks at."""

    scheduler, vae_scale_factor = PNDMScheduler(**PNDM), 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"steps": 600}, "begin at time 600 of 1000"),
        ({"guidance": math.inf}, "guidance must be a finite number"),
        ({"size": 100}, "multiple of 8"),
        ({"seed": -5}, "seed of the first image must not be negative"),
        ({"seed": 2**64}, "seed of the first image must be at most"),
        ({"batch_size": 0}, "must be at least 1"),
    ],
)
def test_what_a_pipeline_cannot_draw_with_is_refused(change, message):
    options = {"steps": 50, "guidance": 7.5, "size": 64, "seed": 0, "batch_size": 8, **change}
    if message is None:
        return check_sampling(Drawn, **options)
    with pytest.raises(FiltersubError, match=message):
        check_sampling(Drawn, **options)
