"""The digits, split in the VTAB-1k manner."""

import pytest
import torch
from sklearn.datasets import load_digits

from filtersub.data import digits_order, load_data
from filtersub.errors import FiltersubError

TEST_CLASSES = [78, 80, 91, 74, 85, 76, 87, 70, 73, 83]  # test images of each digit at seed 0


def test_sizes_and_disjoint_parts():
    split = load_data("digits", size=16)
    search = load_data("digits", size=16, validation=True)
    assert (len(split.train), len(split.judged), split.judged_on) == (1000, 797, "test")
    assert (len(search.train), len(search.judged), search.judged_on) == (800, 200, "validation")
    assert split.n_classes == 10
    both = torch.cat([search.train.tensors[0], search.judged.tensors[0]])
    assert torch.equal(both, split.train.tensors[0])


def test_every_image_is_used_once_and_labels_follow():
    order = digits_order(1797, 0)
    assert sorted(order.tolist()) == list(range(1797))
    split = load_data("digits", size=8)
    labels = torch.cat([split.train.tensors[1], split.judged.tensors[1]])
    assert torch.equal(labels, torch.from_numpy(load_digits().target)[order])


def test_the_split_is_fixed():
    """A changed permutation would change every published number."""
    assert digits_order(1797, 0)[:5].tolist() == digits_order(1797, 0)[:5].tolist()
    assert digits_order(1797, 0).tolist() != digits_order(1797, 1).tolist()
    assert torch.bincount(load_data("digits").judged.tensors[1]).tolist() == TEST_CLASSES


def test_images_are_normalised_as_asked():
    plain = load_data("digits", size=8, mean=(0.0,) * 3, std=(1.0,) * 3).train.tensors[0]
    shifted = load_data("digits", size=8, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)).train.tensors[0]
    expected = (plain - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(shifted, expected)
    assert plain.shape == (1000, 3, 8, 8)
    assert 0 <= float(plain.min()) < float(plain.max()) <= 1


def test_bad_names_and_sizes():
    with pytest.raises(FiltersubError, match="unknown data set 'digit'; known: digits"):
        load_data("digit")
    with pytest.raises(FiltersubError, match="image size must be at least 1"):
        load_data("digits", size=0)
