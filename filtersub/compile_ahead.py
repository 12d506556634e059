"""Kernels compiled before their first use, once for each machine: ``filtersub compile-kernels``, `make install`."""

from collections.abc import Iterator
from typing import Any

import torch
from peft import get_peft_model
from torch import nn

from .decomposition import DecompositionConfig, decompose_model
from .engine.compile import cache_folder
from .errors import FiltersubError
from .sparse_coding import constrained_lasso
from .tuning import FilterSubspaceConfig

#: what is compiled -> recipes that take all its kernels; the table of few atoms is as wide as 8 or 16 of them
RECIPES: dict[str, tuple[dict[str, Any], ...]] = {
    "LASSO codes over up to 13 atoms, and learning": ({"atoms": 9}, {"atoms": 6}),
    "LASSO codes over more atoms": ({"atoms": 16, "block": 2},),
    "orthogonal matching pursuit": ({"atoms": 4, "solver": "omp", "nonzeros": 2},),
}
CONSTRAINED = "codes within a bound on the residual"
TUNING = "training steps of atoms"
#: settings whose training steps take all kernels for blocks of 1 (depthwise layers), 2 and 4 channels
TUNED: tuple[dict[str, Any], ...] = (
    {"atoms": 9},
    {"atoms": 9, "block": 2, "solver": "pca"},
    {"atoms": 9, "block": 4, "solver": "pca"},
    {"atoms": 9, "block": 4, "max_rounds": 1},
)


def compile_ahead() -> Iterator[str]:
    """Compile the kernels that decompositions and training steps take, or find them on disk; yields what is next.

    Raises FiltersubError where no folder can keep them (see engine.compile.cache_folder).
    """
    if cache_folder() is None:
        raise FiltersubError("no folder can keep compiled kernels; set NUMBA_CACHE_DIR to one that can be written to")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 5))
    for what, recipes in RECIPES.items():
        yield what
        for recipe in recipes:
            decompose_model(network, DecompositionConfig(**recipe))
    yield CONSTRAINED
    constrained_lasso(torch.randn(8, 9), torch.randn(9, 9), 0.1)
    yield TUNING
    for settings in TUNED:
        _take_step(FilterSubspaceConfig(**settings))


def _take_step(config: FilterSubspaceConfig) -> None:
    """A step on a small network with a layer of each kind that has kernels of its own."""
    layers = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 5, groups=32), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3)
    late = nn.AvgPool2d(8), nn.Conv2d(32, 32, 3, padding=1, groups=32)  # an image of fewer lines than the kernel
    network = get_peft_model(nn.Sequential(*layers, *late), config).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    network(images).square().sum().backward()
