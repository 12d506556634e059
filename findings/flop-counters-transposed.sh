#!/usr/bin/env bash
# torchinfo 1.8.0, thop 0.1.1, calflops 0.3.2, fvcore 0.1.5: kinds of layers on which counters of multiplications disagree.
#
# Behaviour: a transposed convolution multiplies once for each input position and entry of its kernel. torchinfo and thop count
# output positions, stride^2 times as many. calflops divides the count of a grouped transposed convolution by the groups once
# more. fvcore has no handle for convolutions with padding="same" and counts 0 (its log says "Unsupported operator" once).
# torchinfo counts a linear layer over a sequence (batch, positions, channels) as if there were one position.
# Guess before: all four count every convolution alike, as positions x out x in / groups x kernel entries.
# Seen (Python 3.11, torch 2.13.0, Linux x86-64), counted over true multiplications; torch's own counter (forward) is right in all:
#   layer                                      torchinfo  thop  calflops  fvcore
#   convolution                                     1.00  1.00      1.00    1.00
#   depthwise                                       1.00  1.00      1.00    1.00
#   padding "same"                                  1.00  1.00      1.00    0.00
#   transposed, stride 2                            4.00  4.00      1.00    1.00
#   transposed, stride 2, 4 groups                  4.00  4.00      0.25    1.00
#   transposed, one dimension, stride 2             2.00  2.00      1.00    1.00
#   linear over 5 positions                         0.20  1.00      1.00    1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 torchinfo==1.8.0 \
    thop==0.1.1.post2209072238 fvcore==0.1.5.post20221221 \
    calflops==0.3.2 transformers==5.24.0 accelerate==1.15.0
cat > "$folder/look.py" <<'PY'
import contextlib
import copy
import io
import logging
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from fvcore.nn import FlopCountAnalysis
from thop import profile
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from calflops import calculate_flops

# layer, input, multiplications
CASES = {
    "convolution": (nn.Conv2d(8, 16, 3, padding=1, bias=False), (1, 8, 10, 10), 100 * 16 * 8 * 9),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), (1, 8, 10, 10), 100 * 8 * 9),
    'padding "same"': (nn.Conv2d(8, 16, 3, padding="same", bias=False), (1, 8, 10, 10), 100 * 16 * 8 * 9),
    "transposed, stride 2": (
        nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1, bias=False), (1, 8, 10, 10), 100 * 16 * 8 * 16),
    "transposed, stride 2, 4 groups": (
        nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1, groups=4, bias=False), (1, 8, 10, 10), 100 * 16 * 2 * 16),
    "transposed, one dimension, stride 2": (
        nn.ConvTranspose1d(8, 16, 4, stride=2, padding=1, bias=False), (1, 8, 10), 10 * 16 * 8 * 4),
    "linear over 5 positions": (nn.Linear(8, 16, bias=False), (2, 5, 8), 2 * 5 * 8 * 16),
}
COUNTERS = {
    "torchinfo": lambda layer, size: summary(layer, input_size=size, verbose=0).total_mult_adds,
    "thop": lambda layer, size: profile(layer, inputs=(torch.zeros(size),), verbose=False)[0],
    "calflops": lambda layer, size: calculate_flops(
        nn.Sequential(layer), input_shape=size, output_as_string=False, print_results=False)[1],
    "fvcore": lambda layer, size: FlopCountAnalysis(layer, torch.zeros(size)).total(),
}


def by_torch(layer, size):
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(size))
    return counter.get_total_flops() // 2


found = {}
print(f"{'layer':40}", *(f"{name:>9}" for name in COUNTERS))
for name, (layer, size, true) in CASES.items():
    assert by_torch(layer, size) == true
    with contextlib.redirect_stdout(io.StringIO()):
        found[name] = [round(float(count(copy.deepcopy(layer), size)) / true, 2) for count in COUNTERS.values()]
    print(f"{name:40}", *(f"{ratio:9.2f}" for ratio in found[name]))
assert found == {
    "convolution": [1, 1, 1, 1],
    "depthwise": [1, 1, 1, 1],
    'padding "same"': [1, 1, 1, 0],
    "transposed, stride 2": [4, 4, 1, 1],
    "transposed, stride 2, 4 groups": [4, 4, 0.25, 1],
    "transposed, one dimension, stride 2": [2, 2, 1, 1],
    "linear over 5 positions": [0.2, 1, 1, 1],
}, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
