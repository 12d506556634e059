#!/usr/bin/env bash
# model-compression-toolkit 2.6.1: what it rewrites before it quantises a torch network are other networks.
#
# Behaviour: `pytorch_post_training_quantization` rewrites a network first. It folds a batch norm, and a depthwise 1 x 1 convolution, into
# the 1 x 1 convolution behind, also where that one pads (its border then lacks the offset), and into a transposed one with a stride (each
# pixel in between lacks it) or with groups (offsets are summed over channels). It adds 1 to the kernel for `torch.add(conv(x), x, alpha=a)`,
# whatever `alpha` is. It makes each `functional.layer_norm` one over the last axis, whatever shape is named. Nothing is said.
# Guess before: batch norm folding and the other rewrites keep the outputs, so 8 bits cost 1 to 3 per cent of the output's norm.
# Seen (model-compression-toolkit 2.6.1, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), norm of the error by the norm of the output:
#   norm, 1 x 1 convolution 0.01, with padding 1 0.44; norm, transposed 1 x 1 0.02, with stride 2 0.98, with 8 groups 1.51
#   depthwise, 1 x 1 convolution 0.01, with padding 1 0.32; add of alpha 1 0.02, 0.5 0.69, -1 1.83
#   layer norm of (9,) 0.02, of (9, 9) 0.41, of (8, 9, 9) 0.41
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check model-compression-toolkit==2.6.1 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import logging

import model_compression_toolkit as mct
import torch
from torch import nn

logging.disable(logging.CRITICAL)
torch.manual_seed(0)


class Applied(nn.Module):
    """``function`` of a layer and the images."""

    def __init__(self, function, layer):
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, images):
        return self.function(self.layer, images)


def behind_norm(layer):
    norm = nn.BatchNorm2d(8)
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        values.normal_()
    return nn.Sequential(norm, layer)


def added(alpha):
    return Applied(lambda layer, images: torch.add(layer(images), images, alpha=alpha), nn.Conv2d(8, 8, 3, padding=1))


def normed(*shape):
    return Applied(lambda layer, images: nn.functional.layer_norm(layer(images), shape), nn.Conv2d(8, 8, 3, padding=1))


convolution, transposed = nn.Conv2d, nn.ConvTranspose2d
CASES = [
    ("norm, 1 x 1 convolution", behind_norm(convolution(8, 8, 1)), True),
    ("norm, 1 x 1 convolution, padding 1", behind_norm(convolution(8, 8, 1, padding=1)), False),
    ("norm, 3 x 3 convolution, padding 1", behind_norm(convolution(8, 8, 3, padding=1)), True),
    ("depthwise, 1 x 1 convolution", nn.Sequential(convolution(8, 8, 1, groups=8), convolution(8, 8, 1)), True),
    ("depthwise, 1 x 1 convolution, padding 1", nn.Sequential(convolution(8, 8, 1, groups=8), convolution(8, 8, 1, padding=1)), False),
    ("norm, transposed 1 x 1", behind_norm(transposed(8, 8, 1)), True),
    ("norm, transposed 1 x 1, stride 2", behind_norm(transposed(8, 8, 1, stride=2)), False),
    ("norm, transposed 1 x 1, 8 groups", behind_norm(transposed(8, 8, 1, groups=8)), False),
    ("add, alpha 1", added(1), True),
    ("add, alpha 0.5", added(0.5), False),
    ("add, alpha -1", added(-1), False),
    ("layer norm of (9,)", normed(9), True),
    ("layer norm of (9, 9)", normed(9, 9), False),
    ("layer norm of (8, 9, 9)", normed(8, 9, 9), False),
]
batches = torch.randn(4, 4, 8, 9, 9)
for words, network, right in CASES:
    network.eval()
    found, _ = mct.ptq.pytorch_post_training_quantization(network, lambda: ([images] for images in batches))
    with torch.no_grad():
        wanted = network(batches[0])
        values = found(batches[0].to(next(found.parameters()).device)).cpu()
    share = float((values - wanted).norm() / wanted.norm())
    print(f"{words}: {share:.2f}")
    assert share < 0.05 if right else share > 0.2, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/bars" || { cat "$folder/bars" >&2; exit 1; }
