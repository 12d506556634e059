"""How far a value travels: files of the package that are entered, and calls that lead from one of them to another."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from torch import nn

import filtersub
from filtersub.decomposition import DecompositionConfig, decompose_weight
from filtersub.kernels import layout_of
from filtersub.tuning import FilterSubspaceConfig

ROOT = f"{Path(filtersub.__file__).parent}/"


@pytest.fixture(autouse=True)
def one_thread():
    """What helpers do would not be counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def travelled(work):
    """(files entered, moves) of a call: a move is a call of a function of one file, in whatever way, that comes from a
    function of another. Numba tells the profiler of calls to compiled kernels too."""
    stack, files, moves = [], set(), Counter()

    def profile(frame, event, _):
        code = frame.f_code
        if not code.co_filename.startswith(ROOT):
            return
        place = code.co_filename.removeprefix(ROOT)
        if event == "call":
            files.add(place)
            if stack and stack[-1] != place:
                moves[stack[-1], place] += 1
            stack.append(place)
        elif event == "return":
            stack.pop()

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    assert not stack
    return sorted(files), moves


def test_moves_are_calls_between_files():
    layout = layout_of("one", torch.eye(4).reshape(4, 4, 1, 1), block=2)
    files, moves = travelled(lambda: layout.n_rows)  # all of it in one file
    assert (files, sum(moves.values())) == (["kernel_layout.py"], 0)
    config = DecompositionConfig(atoms=1, block=2)
    files, moves = travelled(lambda: [config.n_atoms(layout) for _ in range(3)])
    assert files == ["decomposition/recipe.py", "kernel_layout.py"]
    assert moves["decomposition/recipe.py", "kernel_layout.py"] == 3  # n_rows


SOLVERS = {
    "lasso": {},
    "lasso, more atoms than a table holds": {"atoms": 16, "max_rounds": 20},
    "pca": {"solver": "pca"},
    "omp": {"solver": "omp", "max_rounds": 5},
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_decomposing_a_layer(solver):
    layer = nn.Conv2d(32, 64, 3)
    torch.manual_seed(0)
    layer.weight.data.normal_()
    layout, config = layout_of("layer", layer), DecompositionConfig(**{"atoms": 6, **SOLVERS[solver]})
    decompose_weight(layout, layer, DecompositionConfig(**{**SOLVERS[solver], "atoms": config.atoms, "max_rounds": 1}))
    files, moves = travelled(lambda: decompose_weight(layout, layer, config))
    assert len(files) <= 20, files
    assert sum(moves.values()) <= 1000, moves.most_common(10)


def network(n_blocks):
    """The shape of EfficientNet-Lite0, narrow: with 16 blocks of pointwise, depthwise, pointwise 50 layers."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride=2, padding=1)]
    for block in range(n_blocks):
        side = 5 if block % 2 else 3
        layers += [nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, side, padding=side // 2, groups=32)]
        layers += [nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


BATCHES = {
    "setting 1": ({"solver": "pca"}, 8, 120),
    "setting 2": ({"solver": "pca", "expansion": 2}, 8, 200),
    "setting 3": ({"solver": "pca", "block": 4}, 8, 600),
    "setting 3, packed": ({"solver": "lasso", "block": 4, "l1_penalty": 0.05, "max_rounds": 1}, 8, 600),
    "setting 4": ({"solver": "pca", "block": 4, "expansion": 2}, 8, 600),
}


@pytest.mark.parametrize("setting", BATCHES)
def test_a_training_batch(setting):
    options, most_files, most_moves = BATCHES[setting]
    config = FilterSubspaceConfig(atoms=2, target_modules=".*", **options)
    model = get_peft_model(network(16), config).train().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor([0, 1])

    def batch():
        nn.functional.cross_entropy(model(images), labels).backward()

    batch()  # compiles
    files, moves = travelled(batch)
    assert len(files) <= most_files, files
    assert sum(moves.values()) <= most_moves, moves.most_common(10)
    if "block" in options:  # a sum and a gradient for each pointwise and linear layer
        assert moves["tuning/weight_sum.py", "engine/conv/patches.py"] == 2 * 33
