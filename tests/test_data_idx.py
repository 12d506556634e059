"""IDX files, as Fashion-MNIST comes in them, read as torchvision reads them."""

import gzip
import struct

import numpy as np
import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from filtersub.data import check_data, load_data
from filtersub.errors import FiltersubError

SIDE = 28


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FILTERSUB_DATA", str(tmp_path))
    home = tmp_path / "fashion-mnist"
    home.mkdir()
    generator = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 30)):
        pixels = generator.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
        write(home / f"{name}-images-idx3-ubyte.gz", struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        write(home / f"{name}-labels-idx1-ubyte.gz", struct.pack(">4BI", 0, 0, 8, 1, count) + labels.tobytes())
    return home


def write(path, content):
    path.write_bytes(gzip.compress(content))


def test_images_are_those_that_torchvision_reads(folder, tmp_path):
    split = load_data("fashion-mnist", size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)
    for data, name in ((split.train, "train"), (split.judged, "t10k")):
        for part, read in (("images-idx3", read_image_file), ("labels-idx1", read_label_file)):
            plain = tmp_path / part
            plain.write_bytes(gzip.decompress((folder / f"{name}-{part}-ubyte.gz").read_bytes()))
            wanted = read(str(plain))
            if part == "labels-idx1":
                assert [label for _, label in data] == wanted.tolist()
            else:
                found = torch.stack([image for image, _ in data])
                torch.testing.assert_close(found, (wanted.float() / 255)[:, None].expand(-1, 3, -1, -1))
    assert (split.n_classes, split.judged_on) == (10, "test")


def test_few_images_are_balanced(folder):
    labels = [label for _, label in load_data("fashion-mnist", size=8, n_train=20).train]
    assert np.bincount(labels).tolist() == [2] * 10


def test_a_check_counts_them(folder):
    report = check_data("fashion-mnist")
    assert not report.complete  # 40 images are not 60,000
    wrong = {(problem.what, problem.part): problem.count for problem in report.problems}
    assert (wrong["count", "train"], wrong["count", "test"]) == (60_000 - 40, 10_000 - 30)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGED = {
    "missing": ("t10k-labels-idx1", lambda path: path.unlink(), "cannot read"),
    "truncated": ("train-images-idx3", truncated, "cannot read"),
    "not compressed": ("train-images-idx3", lambda path: path.write_bytes(b"plain"), "cannot read"),
    "damaged inside": (
        "train-images-idx3",
        lambda path: path.write_bytes(path.read_bytes()[:20] + b"\xff" * 40 + path.read_bytes()[60:]),
        "cannot read",
    ),
    "other sizes": (
        "train-images-idx3",
        lambda path: write(path, struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + b"1234567"),
        "no IDX file of bytes in 3 dimensions",
    ),
    "another type": (
        "train-labels-idx1",
        lambda path: write(path, struct.pack(">4BI", 0, 0, 13, 1, 1) + b"1234"),
        "no IDX file of bytes in 1 dimensions",
    ),
    "empty": ("train-labels-idx1", lambda path: write(path, b""), "no IDX file"),
    "fewer labels": (
        "train-labels-idx1",
        lambda path: write(path, struct.pack(">4BI", 0, 0, 8, 1, 2) + b"\0\1"),
        "has 40 images and train-labels-idx1-ubyte.gz 2 labels",
    ),
    "a label out of range": (
        "t10k-labels-idx1",
        lambda path: write(path, struct.pack(">4BI", 0, 0, 8, 1, 30) + b"\12" * 30),
        "has labels up to 10; 0 to 9 are expected",
    ),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_one_line_with_the_file(folder, name, damage, message):
    path = folder / f"{name}-ubyte.gz"
    damage(path)
    with pytest.raises(FiltersubError, match=message) as raised:
        load_data("fashion-mnist")
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_how_to_get_them_is_said_where_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("FILTERSUB_DATA", str(tmp_path))
    with pytest.raises(FiltersubError, match="apt-get install dataset-fashion-mnist"):
        load_data("fashion-mnist")
