#!/usr/bin/env bash
# brevitas 0.13.4: `AvgPoolToQuantDepthwiseConv` forgets how the pool treats its edge and what it divides by.
#
# Behaviour: the rewriter replaces average pools by depthwise convolutions of the same kernel, stride and padding. It
# reads neither `count_include_pad`, `ceil_mode` nor `divisor_override`: edges are divided by the whole window, rows and
# columns that rounding up adds are missing, another divisor is dropped. Nothing is said. No quantisation is involved
# (`weight_quant=None`).
# Guess before: the rewritten network computes the same to 1e-4.
# Seen (brevitas 0.13.4, torch 2.13.0, Python 3.11, Linux x86-64), outputs before and after for an image of 8 x 10, largest difference:
#   AvgPool2d(3, 2, 1): 4 x 5, 4 x 5, 0.000
#   AvgPool2d(3, 2, 1, count_include_pad=False): 4 x 5, 4 x 5, 0.355
#   AvgPool2d(3, 2, 1, divisor_override=5): 4 x 5, 4 x 5, 0.874
#   AvgPool2d(3, 2, 1, ceil_mode=True): 5 x 6, 4 x 5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 brevitas==0.13.4
cat > "$folder/look.py" <<'PY'
import torch
from brevitas.graph.per_input import AvgPoolToQuantDepthwiseConv
from torch import nn

torch.manual_seed(0)
image = torch.randn(1, 3, 8, 10)
for settings in ({}, {"count_include_pad": False}, {"divisor_override": 5}, {"ceil_mode": True}):
    network = nn.Sequential(nn.AvgPool2d(3, 2, 1, **settings)).eval()
    with torch.no_grad():
        wanted = network(image)
        rewritten = AvgPoolToQuantDepthwiseConv(weight_quant=None).apply(network, image)
        found = rewritten(image)
    assert type(rewritten[0]).__name__.startswith("QuantConv2d"), "the behaviour has changed"
    sides = ["{} x {}".format(*maps.shape[2:]) for maps in (wanted, found)]
    same = wanted.shape == found.shape
    apart = float(abs(found - wanted).max()) if same else None
    words = "".join(f", {name}={value}" for name, value in settings.items())
    print(f"AvgPool2d(3, 2, 1{words}): {sides[0]}, {sides[1]}" + (f", {apart:.3f}" if same else ""))
    assert same == ("ceil_mode" not in settings), "the behaviour has changed"
    assert not same or (apart > 1e-4) == bool(settings), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
