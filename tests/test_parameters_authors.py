"""The counts of the authors' public code for ResNet50, head apart: sums written out, formulas, the real model."""

import pytest
from peft import get_peft_model

from filtersub.decomposition import DecompositionConfig
from filtersub.parameters import count_parameters, load_architecture
from filtersub.tuning import FilterSubspaceConfig

MODEL = "torchvision:resnet50"
PER_CHANNEL = {"expansion_coefficients": "per-channel", "expansion_layers": "all"}


def convolutions():
    """(input channels, kernel side) of ResNet50's 53 convolutions, from He et al., arXiv:1512.03385, Table 1."""
    found, entering = [(3, 7)], 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for number in range(blocks):
            found += [(entering, 1), (width, 3), (width, 1)]
            found += [(entering, 1)] if number == 0 else []  # the shortcut
            entering = 4 * width
    return found


def block_side(channels, k_c):
    return k_c if channels % k_c == 0 else 1


def atoms(m=9):
    return sum(m * k * k for _, k in convolutions())


def expanded(m_1, m=9):
    """alpha_1, called beta there, of every input channel, and D_1: c' m m_1 + m m_1 k^2."""
    return sum(channels * m * m_1 + m * m_1 * k * k for channels, k in convolutions())


def blocks(k_c, m=9):
    """m k_c k_c' atoms of k_c k_c' k^2 entries; the 3 channels of the image are not divided."""
    return sum(m * (k_c * block_side(channels, k_c)) ** 2 * k * k for channels, k in convolutions())


def blocks_of_alpha(k_c, m=9):
    """alpha (c, c', m) in blocks of k_c x k_c' channels: m k_c k_c' atoms of m k_c k_c' entries, whatever k."""
    return sum((m * k_c * block_side(channels, k_c)) ** 2 for channels, _ in convolutions())


SETTINGS = {
    "dD": ({"block": 1}, atoms(), 2_061),
    "m_1 = 3": ({"block": 1, "expansion": 3, **PER_CHANNEL}, expanded(3), 614_520),
    "m_1 = 4": ({"block": 1, "expansion": 4, **PER_CHANNEL}, expanded(4), 819_360),
    "k_c = 4": ({"block": 4, "block_spatial": True}, blocks(4), 421_776),
    "k_c = 2": ({"block": 2, "block_spatial": True}, blocks(2), 27_684),
    "m_1 = 4, k_c = 4": (
        {"block": 4, "block_coefficients": True, "expansion": 4, **PER_CHANNEL},
        expanded(4) + blocks_of_alpha(4),
        1_898_928,
    ),
}


def test_the_convolutions_are_those_of_the_network():
    real = [m for m in load_architecture(MODEL).modules() if type(m).__name__ == "Conv2d"]
    assert sorted(convolutions()) == sorted((m.in_channels, m.kernel_size[0]) for m in real)
    assert blocks_of_alpha(4) == 52 * 144**2 + 36**2 == 1_079_568  # what gets no gradient in the authors' code


@pytest.mark.parametrize("solver", ["lasso", "pca"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_authors_counts(setting, solver):
    options, by_hand, counted = SETTINGS[setting]
    recipe = DecompositionConfig(**options, solver=solver, limit_atoms=False)
    assert by_hand == counted
    assert count_parameters(MODEL, recipe=recipe).trainable == counted


@pytest.mark.parametrize("setting", ["m_1 = 3", "m_1 = 4, k_c = 4"])
def test_the_authors_counts_are_what_is_trained(setting):
    options, _, counted = SETTINGS[setting]
    model = get_peft_model(
        load_architecture(MODEL),
        FilterSubspaceConfig(**options, solver="pca", limit_atoms=False),
        low_cpu_mem_usage=True,
    )
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == counted


def test_the_limits_of_atoms():
    """One atom of size 1 spans all that nine do, and principal atoms are at most d: so a limited count is smaller."""
    options = {"block": 1, "solver": "pca"}
    limited = count_parameters(MODEL, recipe=DecompositionConfig(**options)).trainable
    assert limited == sum(min(9, k * k) * k * k for _, k in convolutions())
    rows = count_parameters("torchvision:mobilenet_v2", recipe=DecompositionConfig(atoms=40, limit_atoms=False))
    assert rows.trainable == sum(40 * 9 for layer in rows.layers)
    assert any(layer.shape[0] * layer.shape[1] < 40 for layer in rows.layers)  # fewer rows than atoms
