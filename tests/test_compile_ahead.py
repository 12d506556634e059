"""`filtersub compile-kernels` leaves nothing to compile for the decompositions and tuning that people ask for first."""

import subprocess
import sys

from typer.testing import CliRunner

from filtersub import compile_ahead
from filtersub.cli import app

#: in a process of its own: in this one other tests have compiled what they liked
NOTHING_MORE = """
import gc
from numba.core.dispatcher import Dispatcher
from torch import nn
from filtersub.compile_ahead import compile_ahead
from filtersub.decomposition import DecompositionConfig, decompose_model

def compiled():
    kernels = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {(each.py_func.__module__, each.__name__, str(types)) for each in kernels for types in each.signatures}

list(compile_ahead())
before = compiled()
assert len(before) > 8, len(before)  # those that are called; what they call is within them
network = nn.Sequential(nn.Conv2d(12, 24, 3), nn.Conv2d(24, 24, 5, groups=24), nn.Conv2d(24, 8, 1), nn.Conv2d(8, 4, 7))
recipes = [{"atoms": m} for m in (3, 6, 9, 12)] + [{"atoms": 9, "block": 2}, {"atoms": 20, "block": 4}]
recipes += [{"atoms": 9, "expansion": 4}, {"solver": "pca"}, {"solver": "omp", "nonzeros": 3}]
for recipe in recipes:
    decompose_model(network, DecompositionConfig(**recipe))
print(sorted(compiled() - before))
"""


def test_decompositions_find_their_kernels_compiled():
    done = subprocess.run([sys.executable, "-c", NOTHING_MORE], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


#: steps of the default of `tune`, of the paper's setting 3 in both usual blocks, and of setting 2
NOTHING_MORE_IN_TRAINING = (
    NOTHING_MORE.partition("network = ")[0]
    + """
import torch
from peft import get_peft_model
from filtersub import FilterSubspaceConfig, load_model

last = {"memory_format": torch.channels_last}
for settings in ({}, {"block": 4, "solver": "pca"}, {"block": 2, "solver": "pca"}, {"expansion": 4}):
    recipe = FilterSubspaceConfig(**{"max_rounds": 1, "modules_to_save": ["classifier"], **settings})
    model = get_peft_model(load_model("efficientnet_lite0", pretrained=False, num_classes=10), recipe).to(**last)
    model(torch.randn(2, 3, 32, 32).contiguous(**last)).sum().backward()
print(sorted(compiled() - before))
"""
)


def test_training_steps_find_their_kernels_compiled():
    done = subprocess.run([sys.executable, "-c", NOTHING_MORE_IN_TRAINING], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_says_what_it_compiles_and_where_it_is_kept():
    done = CliRunner().invoke(app, ["compile-kernels"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    names = [*compile_ahead.RECIPES, compile_ahead.CONSTRAINED, compile_ahead.TUNING]
    assert lines[:-1] == [f"kernels for {what} ..." for what in names]
    assert lines[-1].startswith("kernels are ready in ")


def test_no_folder_for_kernels_is_one_line(monkeypatch):
    monkeypatch.setattr(compile_ahead, "cache_folder", lambda: None)
    done = CliRunner().invoke(app, ["compile-kernels"])
    assert "no folder can keep compiled kernels; set NUMBA_CACHE_DIR" in str(done.exception)
