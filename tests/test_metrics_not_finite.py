"""A score of features that are NaN, infinite or too large is an error that says so, never a number."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from filtersub.errors import FiltersubError
from filtersub.metrics import compare, image_tensor, module_features, subject, subject_scores
from filtersub.metrics.distance import frechet_distance, kernel_distance
from filtersub.metrics.features import checked_finite
from filtersub.metrics.statistics import FeatureStatistics, read_statistics, set_statistics, write_statistics
from filtersub.metrics.subject import mean_similarity

BROKEN = [math.nan, math.inf, -math.inf]


def features(count=60, seed=0):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def statistics(rows):
    found = FeatureStatistics(rows.shape[1])
    found.update(rows)
    return found


def pictures(count=12, seed=0):
    return torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("row", [0, 31, 59])
def test_statistics_take_in_no_broken_features(value, row):
    rows = features()
    rows[row, 2] = value
    with pytest.raises(FiltersubError, match=rf"1 of 60 rows are NaN or infinite, row {row} for one"):
        statistics(rows)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize(
    ("part", "distance"), [("total", frechet_distance), ("outer", frechet_distance), ("sample", kernel_distance)]
)
def test_statistics_broken_otherwise_give_no_distance(value, part, distance):
    """Both orders: a NaN distance would be clipped to 0 as rounding below zero is."""
    good, broken = statistics(features()), statistics(features(seed=1))
    getattr(broken, part).view(-1)[3] = value
    for pair in ((good, broken), (broken, good), (broken, broken)):
        with pytest.raises(FiltersubError, match=r"there is no .* distance: features are NaN"):
            distance(*pair)


def test_finite_features_whose_squares_overflow_give_no_distance():
    good, huge = statistics(features()), statistics(features(seed=1) * 1e200)
    for distance in (frechet_distance, kernel_distance):
        assert math.isfinite(distance(good, statistics(features(seed=1) * 1e20)))
        with pytest.raises(FiltersubError, match="too large to be squared"):
            distance(good, huge)


@pytest.mark.parametrize("value", BROKEN)
def test_an_extractor_that_breaks_on_one_image_is_named(value):
    module = torch.nn.Linear(3, 4)

    def compute(images):
        found = module(images.float().mean((2, 3)))
        return torch.where(images[:, :1, 0, 0] == 255, value, found)

    extractor = module_features("thumbnail", module, 4, compute)
    broken = pictures(seed=1)
    broken[:, :, 0, 0] = 1
    compare(image_tensor(broken), image_tensor(broken), extractor)
    broken[7, :, 0, 0] = 255
    with pytest.raises(FiltersubError, match="features of thumbnail: 1 of 12 rows are NaN or infinite, row 7"):
        compare(image_tensor(pictures()), image_tensor(broken), extractor)


def test_broken_statistics_of_a_cache_are_named(tmp_path):
    module = torch.nn.Linear(3, 4)
    extractor = module_features("thumbnail", module, 4, lambda images: module(images.float().mean((2, 3))))
    write_statistics(tmp_path / "x.safetensors", set_statistics(image_tensor(pictures()), extractor))
    tensors = load_file(tmp_path / "x.safetensors")
    tensors["first.outer"][1, 1] = math.nan
    save_file(tensors, tmp_path / "x.safetensors", metadata={"counts": '{"whole": 12, "first": 6, "second": 6}'})
    with pytest.raises(FiltersubError, match=r"x\.safetensors holds no statistics of features .*NaN.*remove it"):
        read_statistics(tmp_path / "x.safetensors")


class Encoder:
    """In the place of an encoder: the mean colours of images, one of them broken; texts by their lengths."""

    kind = "clip"
    broken_image, broken_text = None, None

    def __init__(self, folder, *, device="cpu"):
        pass

    def embed(self, images):
        found = images.float().mean((2, 3))
        if self.broken_image is not None and len(images) > self.broken_image:
            found[self.broken_image] = math.nan
        return found

    def embed_texts(self, texts):
        found = torch.tensor([[float(len(text)), 1.0, 2.0] for text in texts])
        if self.broken_text is not None:
            found[self.broken_text, 1] = math.inf
        return found


@pytest.mark.parametrize(
    ("asked", "attribute", "message"),
    [
        ({"clip": "x"}, "broken_image", "clip embeddings of tensor: 1 of 4 rows"),
        ({"clip": "x"}, "broken_text", "embeddings of the prompts: 1 of 4 rows"),
        ({"clip": "x", "reference": True}, "broken_image", "clip embeddings of tensor"),
        ({"dino": "x", "reference": True}, "broken_image", "clip embeddings of tensor"),
    ],
)
def test_scores_of_prompts_leave_out_no_broken_image(monkeypatch, asked, attribute, message):
    """A mean over the images of a prompt would pass over NaN and be a score of fewer images."""
    monkeypatch.setattr(subject, "TextImageEncoder", Encoder)
    monkeypatch.setattr(subject, "ImageEncoder", Encoder)
    if "reference" in asked:
        asked = {**asked, "reference": image_tensor(pictures(3, seed=2))}
    images, prompts = image_tensor(pictures(4)), ["a", "a", "bcd", "bcd"]
    table = subject_scores(images, prompts, **asked)
    assert table.drop(columns="prompt").notna().all().all()
    monkeypatch.setattr(Encoder, attribute, 2)
    with pytest.raises(FiltersubError, match=message):
        subject_scores(images, prompts, **asked)


def test_lpips_of_a_broken_network_is_an_error(monkeypatch):
    class Broken(subject.PerceptualDistance):
        def __init__(self, *_, device="cpu"):
            self.device = torch.device(device)
            self.model = lambda one, two, normalize: torch.full((len(one), 1, 1, 1), math.nan)

    monkeypatch.setattr(subject, "PerceptualDistance", Broken)
    with pytest.raises(FiltersubError, match="LPIPS distances: 1 of 1 rows are NaN"):
        subject_scores(image_tensor(pictures(2)), ["a", "a"], lpips=("alex", "x"))


def test_finite_values_come_back_as_they_are():
    rows = features()
    assert checked_finite(rows, "rows") is rows
    assert checked_finite(torch.zeros(0, 3), "nothing").shape == (0, 3)
    assert mean_similarity(rows, rows).isfinite().all()
