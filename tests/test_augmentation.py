"""Augmented training images: by name, by seed, epoch and place alone, never those that are judged."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.ops import StochasticDepth

from filtersub.data import load_data
from filtersub.data.images import PixelImages
from filtersub.data.prepared import AugmentedImages
from filtersub.data.views import AUGMENTATIONS
from filtersub.errors import FiltersubError
from filtersub.models import add_head_dropout_
from filtersub.random_states import random_states, seeded
from filtersub.training import TrainingConfig, fit

NAMES = [name for name in AUGMENTATIONS if name != "none"]
HALF = ((0.5,) * 3, (0.5,) * 3)


def pixels(count=12, side=20):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def augmented(name="crop-flip", seed=0, images=None, size=16):
    images = pixels() if images is None else images
    return AugmentedImages(
        PixelImages("train", images, np.arange(len(images)) % 3), name, size, *HALF, name="x", seed=seed
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_depends_on_seed_epoch_and_place_alone(name):
    data = augmented(name)
    first, label = data[4]
    assert first.shape == (3, 16, 16)
    assert first.dtype == torch.float32
    assert label == 1
    _ = data[7], torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(data[4][0], first)
    assert torch.equal(augmented(name)[4][0], first)
    assert not torch.equal(augmented(name, seed=1)[4][0], first)
    data.begin_epoch(1)
    assert not torch.equal(data[4][0], first)
    data.begin_epoch(0)
    assert torch.equal(data[4][0], first)
    before = random_states()
    _ = data[5]
    after = random_states()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
    assert before["numpy"] == after["numpy"]


def test_all_images_of_an_epoch_are_drawn_apart():
    data = augmented(images=np.repeat(pixels(1), 12, 0))
    views = [data[index][0] for index in range(12)]
    assert not any(torch.equal(views[i], views[j]) for i in range(12) for j in range(i))


def test_crops_keep_the_picture_and_half_of_them_are_mirrored():
    """A ramp from left to right stays one: rising, or falling where it is mirrored."""
    ramp = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[None, :, None], (32, 32, 3))
    data = augmented(images=np.repeat(ramp[None], 400, 0))
    steps = torch.stack([data[index][0] for index in range(400)]).diff(dim=3).flatten(1)
    rising, falling = (steps >= 0).all(1), (steps <= 0).all(1)
    assert bool((rising | falling).all())
    assert 150 < int(rising.sum()) < 250  # 400 coins: five standard deviations
    assert bool((steps.abs().amax(1) > 0).all())


def test_pixels_are_normalised():
    grey = np.full((1, 24, 24, 3), 191, dtype=np.uint8)
    data = AugmentedImages(
        PixelImages("x", grey, np.zeros(1, int)), "crop-flip", 16, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0), name="x"
    )
    wanted = (191 / 255 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 1.0, 2.0])
    torch.testing.assert_close(data[0][0], wanted.view(3, 1, 1).expand(3, 16, 16))


def test_workers_read_the_epoch_that_it_is():
    data = augmented()
    for epoch in (0, 3):
        data.begin_epoch(epoch)
        own = torch.cat([images for images, _ in DataLoader(data, 5)])
        theirs = torch.cat([images for images, _ in DataLoader(data, 5, num_workers=2)])
        assert torch.equal(own, theirs)


@pytest.mark.parametrize("validation", [False, True])
def test_images_to_judge_on_are_never_augmented(validation):
    plain = load_data("digits", size=16, validation=validation)
    views = load_data("digits", size=16, validation=validation, augmentation="crop-flip")
    assert torch.equal(views.judged.tensors[0], plain.judged.tensors[0])
    assert views.judged_on == plain.judged_on
    assert len(views.train) == len(plain.train)
    assert [views.train[i][1] for i in range(40)] == plain.train.tensors[1][:40].tolist()
    assert not torch.equal(views.train[0][0], plain.train[0][0])
    other = load_data("digits", size=16, validation=validation, augmentation="crop-flip", augmentation_seed=1)
    assert not torch.equal(other.train[0][0], views.train[0][0])


def folder_of_images(root):
    images = pixels(24, 30)
    for index, image in enumerate(images):
        path = root / ("train" if index % 2 else "test") / f"class{index % 4 // 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, : 30 - index % 3]).save(path)
    return f"folder:{root}"


def test_judge_crop_is_the_middle_of_the_enlarged_image(tmp_path):
    """Resize to 16 and centre crop to 14 is judge_crop 0.875, by hand with Pillow."""
    name = folder_of_images(tmp_path)
    split = load_data(name, size=14, judge_crop=0.875, augmentation="crop-flip")
    path = sorted((tmp_path / "test" / "class0").iterdir())[0]
    with Image.open(path) as image:
        short = min(image.size)
        sides = tuple(round(side * 16 / short) for side in image.size)
        resized = image.resize(sides, Image.Resampling.BICUBIC)
    left, top = ((side - 14) // 2 for side in sides)
    wanted = torch.from_numpy(np.array(resized.crop((left, top, left + 14, top + 14)))).permute(2, 0, 1)
    found = split.judged[0][0] * 0.5 + 0.5
    torch.testing.assert_close(found * 255, wanted.float(), atol=1e-3, rtol=0)
    digits, cropped = load_data("digits", size=16), load_data("digits", size=14, judge_crop=0.875)
    torch.testing.assert_close(cropped.judged.tensors[0], digits.judged.tensors[0][..., 1:15, 1:15])


def test_broken_images_are_named_before_the_first_step(tmp_path):
    name = folder_of_images(tmp_path)
    broken = next((tmp_path / "train" / "class1").iterdir())
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(FiltersubError, match=r"images that cannot be decoded"):
        load_data(name, size=16, augmentation="crop-flip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augmentation": "flip"}, r"unknown augmentation 'flip'; did you mean 'crop-flip'\? Known: none, crop-flip"),
        (
            {"judge_crop": 0.0},
            "judge_crop is the share of the image kept in its middle, above 0 and at most 1, got 0.0",
        ),
        ({"judge_crop": 1.2}, "judge_crop is the share"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(FiltersubError, match=message):
        load_data("digits", size=16, **options)


def test_seeded_draws_leave_no_trace():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(1, 2):
        inside = torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(torch.rand(2), expected)
    with seeded(1, 2):
        again = torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(inside[0], again[0])
    assert inside[1:] == again[1:]
    with seeded(2, 1):
        assert not torch.equal(torch.rand(2), inside[0])


class Interrupted(Exception):
    pass


def everything(folder=None, workers=0, stop_after=None):
    """A run with all that is drawn at random: views, mixing, drop path, dropout."""

    def stop(row):
        if row["epoch"] == stop_after:
            raise Interrupted

    data = augmented("randaugment", images=pixels(24))
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), StochasticDepth(0.5, "row"))
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = nn.Sequential(*layers)
    add_head_dropout_(model, "5", 0.3)
    config = TrainingConfig(
        epochs=4, batch_size=8, learning_rate=1e-2, mixup=0.4, cutmix=1.0, label_smoothing=0.1, workers=workers
    )
    history = fit(model, data, data, 3, config, folder=folder, on_epoch=stop).history
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history], model


@pytest.mark.parametrize("workers", [0, 1])
def test_everything_random_resumes_exactly(workers, tmp_path):
    whole, model = everything()
    with pytest.raises(Interrupted):
        everything(tmp_path, workers, stop_after=2)
    resumed, other = everything(tmp_path, workers)
    assert resumed == whole
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
