#!/usr/bin/env bash
# ncnn 1.0.20261020, pnnx 20261020: circular padding becomes zero padding, and average pools that round up divide by another number.
#
# Behaviour: pnnx turns a traced torch network into ncnn's files. A convolution with `padding_mode="circular"`,
# `CircularPad2d` and `F.pad(mode="circular")` are converted without a word, into padding by zeros; "reflect" and
# "replicate" are right. `AvgPool2d` with `ceil_mode=True` counts, in the windows that reach behind the image, what lies
# behind it too (torch, by its default `count_include_pad=True`, only its own padding): the last row and column are
# divided by too much. Without either setting the pools agree.
# Guess before: the same outputs as torch's, or the conversion says that it cannot.
# Seen (ncnn 1.0.20261020, pnnx 20261020, torch 2.13.0, Python 3.11, Linux x86-64), largest difference from torch, and where:
#   Conv2d, zeros: 0.000
#   Conv2d, reflect: 0.000
#   Conv2d, replicate: 0.000
#   Conv2d, circular: 1.206 at the edge
#   CircularPad2d: 3.411 at the edge
#   AvgPool2d(3, 2, 1), ceil_mode False, count_include_pad True: 0.000
#   AvgPool2d(3, 2, 0), ceil_mode True, count_include_pad False: 0.000
#   AvgPool2d(3, 2, 0), ceil_mode True, count_include_pad True: 0.346 at the last row or column
#   AvgPool2d(3, 2, 1), ceil_mode True, count_include_pad False: 0.000
#   AvgPool2d(3, 2, 1), ceil_mode True, count_include_pad True: 0.377 at the last row or column
#   the circular convolution from one that pads by zeros: 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 ncnn==1.0.20261020 pnnx==20261020
cat > "$folder/look.py" <<'PY'
import subprocess

import ncnn
import numpy
import pnnx
import torch
from torch import nn

SHAPE = (1, 4, 8, 10)


def converted(network, image):
    """The outputs of the network's ncnn files, in float32, and whether the conversion warned."""
    torch.jit.trace(network, image).save("network.pt")
    command = [pnnx.EXEC_PATH, "network.pt", f"inputshape=[{','.join(map(str, SHAPE))}]", "fp16=0"]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    words = (said.stdout + said.stderr).lower()
    net = ncnn.Net()
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    net.load_param("network.ncnn.param")
    net.load_model("network.ncnn.bin")
    run = net.create_extractor()
    run.input("in0", ncnn.Mat(image[0].numpy()).clone())
    return numpy.array(run.extract("out0")[1]), any(
        word in words for word in ("warn", "not support", "ignore", "circular")
    )


torch.manual_seed(0)
image = torch.randn(SHAPE)
convolutions = {
    mode: nn.Conv2d(4, 8, 3, padding=1, padding_mode=mode) for mode in ("zeros", "reflect", "replicate", "circular")
}
networks = {f"Conv2d, {mode}": (layer, mode == "circular") for mode, layer in convolutions.items()}
networks["CircularPad2d"] = nn.CircularPad2d(1), True
for ceil in (False, True):
    for padding in (0, 1):
        for counted in (False, True):
            layer = nn.AvgPool2d(3, 2, padding, ceil_mode=ceil, count_include_pad=counted)
            title = f"AvgPool2d(3, 2, {padding}), ceil_mode {ceil}, count_include_pad {counted}"
            networks[title] = layer, ceil and counted
with torch.no_grad():
    for title, (layer, wrong) in networks.items():
        wanted = layer.eval()(image)[0].numpy()
        found, warned = converted(layer, image)
        apart = abs(found - wanted).max(0)
        places = numpy.argwhere(apart > 1e-4)
        words = (
            "the last row or column"
            if len(places) and (places == numpy.array(apart.shape) - 1).any(1).all()
            else "the edge"
        )
        print(f"{title}: {apart.max():.3f}" + (f" at {words}" if len(places) else ""))
        assert not warned and (len(places) > 0) == wrong, "the behaviour has changed"
        assert not (apart > 1e-4)[1:-1, 1:-1].any(), "the behaviour has changed"
    zeros = nn.functional.conv2d(image, convolutions["circular"].weight, convolutions["circular"].bias, padding=1)[0]
    apart = abs(converted(convolutions["circular"], image)[0] - zeros.numpy()).max()
    print(f"the circular convolution from one that pads by zeros: {apart:.3f}")
    assert apart < 1e-4, "the behaviour has changed"
PY
cd "$folder"
chmod +x venv/lib/python3*/site-packages/pnnx/pnnx
OMP_NUM_THREADS=1 venv/bin/python -W ignore look.py
