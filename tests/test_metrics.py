"""Distances between sets: against scipy's formula, torchmetrics' own path and closed forms; streaming; bad input."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.metrics import FewImagesWarning, compare, image_folder, image_tensor, inception_features, module_features
from filtersub.metrics.distance import frechet_distance, kernel_distance
from filtersub.metrics.statistics import FeatureStatistics, read_statistics, set_statistics


def drawn(count, width, seed=0, shift=0.0):
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ mix + shift


def statistics(features, **options):
    found = FeatureStatistics(features.shape[1], **options)
    for batch in features.split(37):
        found.update(batch)
    return found


def by_scipy(one, two):
    """The definition, with scipy's matrix square root."""
    means, spreads = zip(*((x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)) for x in (one, two)), strict=True)
    root = scipy.linalg.sqrtm(spreads[0] @ spreads[1]).real
    return ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root)


class Pooled(nn.Module):
    """An extractor small enough to follow: mean colours and one mixed feature."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 4)
        self.calls = 0

    def features(self, images):
        self.calls += 1
        return self.mix(images.float().mean((2, 3)) / 255)


@pytest.fixture
def pooled():
    torch.manual_seed(0)
    module = Pooled()
    return module, module_features("pooled", module, 4, module.features)


def noise_images(count, seed=0, high=256, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("width", [2, 5, 40])
def test_frechet_is_scipys(width):
    one, two = drawn(300, width), drawn(211, width, seed=1, shift=0.3)
    assert frechet_distance(statistics(one), statistics(two)) == pytest.approx(by_scipy(one, two), rel=1e-8)


def test_frechet_is_what_torchmetrics_computes_from_images(pooled):
    from torchmetrics.image.fid import FrechetInceptionDistance

    module, extractor = pooled
    module.num_features, module.forward = 4, module.features
    metric = FrechetInceptionDistance(feature=module)
    real, other = noise_images(60), noise_images(50, seed=1, high=200)
    with torch.no_grad():
        metric.update(real, real=True)
        metric.update(other, real=False)
    ours = compare(image_tensor(real), image_tensor(other), extractor, batch_size=7)
    assert ours.frechet == pytest.approx(float(metric.compute()), rel=1e-4)  # theirs ends in float32


def test_frechet_of_a_shift_is_its_square():
    features = drawn(500, 6)
    assert frechet_distance(statistics(features), statistics(features + 2.0)) == pytest.approx(6 * 4.0, rel=1e-9)
    assert frechet_distance(statistics(features), statistics(features)) == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_is_torchmetrics_at_equal_sizes():
    from torchmetrics.image.kid import poly_mmd

    one, two = drawn(80, 5), drawn(80, 5, seed=1, shift=0.5)
    expected = float(poly_mmd(one.float().double(), two.float().double()))
    assert kernel_distance(statistics(one), statistics(two)) == pytest.approx(expected, rel=1e-9)


def test_bias_of_sample_size_is_in_the_frechet_distance_alone():
    """Sets of one distribution: the Fréchet distance falls with their size, the kernel distance lies around zero."""
    frechet, kernel = {}, {}
    for count in (40, 400):
        pairs = [(statistics(drawn(count, 4, 2 * s)), statistics(drawn(count, 4, 2 * s + 1))) for s in range(30)]
        frechet[count] = np.mean([frechet_distance(*pair) for pair in pairs])
        values = np.array([kernel_distance(*pair) for pair in pairs])
        kernel[count] = values.mean() / (values.std() / np.sqrt(len(values)))
    assert frechet[40] > 5 * frechet[400]
    assert all(abs(standard_errors) < 3 for standard_errors in kernel.values())


def test_streaming_keeps_a_bounded_uniform_sample():
    places = torch.arange(6000.0)[:, None]
    found = statistics(places, kept=300)
    assert found.count == 6000
    assert found.sample.shape == (300, 1)
    assert len(found.sample.unique()) == 300
    assert abs(float(found.sample.mean()) - 2999.5) < 4 * 6000 / np.sqrt(12 * 300)  # four standard errors


STREAMED = """
import sys
import torch
from filtersub.memory import PeakMemory
from filtersub.metrics import image_folder, module_features
from filtersub.metrics.statistics import set_statistics

module = torch.nn.Linear(3072, 256)
extractor = module_features("linear", module, 256, lambda images: module(images.flatten(1).float() / 255))
small, large = (image_folder(folder) for folder in sys.argv[1:])
set_statistics(small, extractor)  # what is loaded and allocated once
for images in (small, large):
    with PeakMemory("cpu") as memory:
        found = set_statistics(images, extractor)
    print(found.whole.count, memory.added_bytes)
"""


@pytest.mark.slow  # 24,000 images are read
def test_twenty_thousand_images_need_no_more_memory_than_two_thousand(tmp_path):
    """The peak of a fresh process: the 18,000 further images would take 55 MB, their features 18 MB."""
    image = noise_images(1, size=32)[0].permute(1, 2, 0).numpy()
    for name, count in (("small", 2000), ("large", 20_000)):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "00000.bmp")
        for place in range(1, count):
            os.link(tmp_path / name / "00000.bmp", tmp_path / name / f"{place:05d}.bmp")
    command = [sys.executable, "-c", STREAMED, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (few, small), (many, large) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (2000, 20_000)
    assert large - small < 18_000 * 256 * 4  # bytes of the further features alone, in float32


def test_covariance_is_numpys():
    features = drawn(100, 5)
    np.testing.assert_allclose(statistics(features).covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-9)


def test_statistics_of_the_real_set_are_cached_by_images_and_weights(pooled, tmp_path):
    module, extractor = pooled
    images = image_tensor(noise_images(30))
    first = set_statistics(images, extractor, cache=tmp_path)
    calls = module.calls
    again = set_statistics(images, extractor, cache=tmp_path)
    assert module.calls == calls
    for one, two in ((first.whole, again.whole), (first.halves[1], again.halves[1])):
        assert one.count == two.count
        assert torch.equal(one.outer, two.outer)
        assert torch.equal(one.sample, two.sample)
    set_statistics(image_tensor(noise_images(30, seed=5)), extractor, cache=tmp_path)
    with torch.no_grad():
        module.mix.weight.add_(1)
    other = module_features("pooled", module, 4, module.features)
    set_statistics(images, other, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_damaged_statistics_are_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not tensors")
    with pytest.raises(FiltersubError, match=r"x\.safetensors holds no statistics"):
        read_statistics(tmp_path / "x.safetensors")


def test_the_floor_is_the_distance_of_two_halves(pooled):
    found = compare(image_tensor(noise_images(200)), image_tensor(noise_images(100, seed=1, high=100)), pooled[1])
    halves = set_statistics(image_tensor(noise_images(200)), pooled[1]).halves
    assert halves[0].count == halves[1].count == found.floor_images == 100
    assert found.floor_frechet == pytest.approx(frechet_distance(*halves))
    assert found.frechet > 10 * found.floor_frechet
    assert found.distance_name == "pooled Fréchet distance"
    assert "FID" not in found.sentence
    assert f"{found.floor_frechet:.4g}" in found.sentence


def test_few_images_are_a_warning_that_says_what_the_number_is_worth(pooled):
    few = image_tensor(noise_images(4))
    with pytest.warns(FewImagesWarning, match="4 images for 4 features.*bias of sample size.*more than 4 images"):
        compare(image_tensor(noise_images(50)), few, pooled[1])
    with pytest.raises(FiltersubError, match="at least 4"):
        compare(image_tensor(noise_images(50)), image_tensor(noise_images(3)), pooled[1])


def saved(folder, name, size=(8, 8), mode="RGB"):
    folder.mkdir(exist_ok=True)
    array = np.random.default_rng(len(name)).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(array).convert(mode).save(folder / name)


def test_folders_and_tensors_are_the_same_images(tmp_path, pooled):
    images = noise_images(9)
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    read = torch.cat(list(image_folder(tmp_path).batches(4)))
    assert torch.equal(read, images)
    assert len(image_folder(tmp_path, at_most=5)) == 5


def test_mixed_sizes_and_modes_are_named_and_can_be_resized(tmp_path):
    saved(tmp_path / "sizes", "a.png")
    saved(tmp_path / "sizes", "b.png", (8, 10))
    with pytest.raises(FiltersubError, match=r"mixed sizes: 8 x 8 .*a\.png.* and 8 x 10 .*b\.png"):
        list(image_folder(tmp_path / "sizes").batches())
    (batch,) = image_folder(tmp_path / "sizes", resize=6).batches()
    assert batch.shape == (2, 3, 6, 6)
    saved(tmp_path / "modes", "a.png")
    saved(tmp_path / "modes", "b.png", mode="L")
    with pytest.raises(FiltersubError, match=r"mixed modes: RGB .* and L .*b\.png"):
        list(image_folder(tmp_path / "modes").batches())


def test_bad_sets_are_one_line(tmp_path):
    with pytest.raises(FiltersubError, match="no folder of images"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(FiltersubError, match="holds no images"):
        image_folder(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(FiltersubError, match=r"broken\.png cannot be read"):
        list(image_folder(tmp_path).batches())
    with pytest.raises(FiltersubError, match="uint8"):
        image_tensor(torch.rand(4, 3, 8, 8))


def test_only_inception_is_called_fid(pooled):
    module, _ = pooled
    with pytest.raises(FiltersubError, match="only Inception's distance is called FID"):
        module_features("fid", module, 4, module.features)


def test_inception_features_come_from_a_local_file(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="FID needs torch-fidelity")
    with pytest.raises(FiltersubError, match=r"no file .*missing\.pth"):
        inception_features(tmp_path / "missing.pth")
    (tmp_path / "damaged.pth").write_bytes(b"nothing")
    with pytest.raises(FiltersubError, match="does not hold the Inception weights"):
        inception_features(tmp_path / "damaged.pth")

    torch.manual_seed(0)
    make = fidelity.FeatureExtractorInceptionV3
    blank = make.__new__(make)
    with torch.no_grad():
        original, fidelity.load_state_dict_from_url = fidelity.load_state_dict_from_url, lambda *_, **__: {}
        strict = make.load_state_dict
        make.load_state_dict = lambda self, state: None
        try:
            blank.__init__("inception-v3-compat", ["2048"])
        finally:
            fidelity.load_state_dict_from_url, make.load_state_dict = original, strict
    torch.save(blank.state_dict(), tmp_path / "inception.pth")
    extractor = inception_features(tmp_path / "inception.pth")
    features = extractor(torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8))
    assert features.shape == (2, 2048)
    assert extractor.distance_name == "FID"
    assert extractor.kernel_name == "KID"
