#!/usr/bin/env bash
# torch 2.13.0, `torch.utils.flop_counter.FlopCounterMode`: the weight gradient of a grouped convolution counts too much.
#
# Behaviour: the forward pass and the gradient of the images of a grouped convolution are counted with c_in / groups
# channels for each output, as they are computed. The gradient of the weight is counted as if every output met every
# input, groups times too much: 32 times for a depthwise layer of 32 channels. On networks of depthwise layers a step of
# training is counted many times too large.
# Guess before: backward is twice forward for every convolution.
# Seen (torch 2.13.0, Python 3.11, Linux x86-64; 32 channels, 3 x 3):
#   groups 1: image gradient / forward 1.0, weight gradient / forward 1.0
#   groups 4: image gradient / forward 1.0, weight gradient / forward 4.0
#   groups 32: image gradient / forward 1.0, weight gradient / forward 32.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6
cat > "$folder/look.py" <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(groups: int, weight: bool, images: bool) -> int:
    layer = nn.Conv2d(32, 32, 3, padding=1, groups=groups, bias=False)
    layer.weight.requires_grad_(weight)
    batch = torch.randn(2, 32, 8, 8, requires_grad=images)
    with FlopCounterMode(display=False) as counter:
        output = layer(batch)
        if weight or images:
            output.sum().backward()
    return counter.get_total_flops()


for groups in (1, 4, 32):
    forward = counted(groups, False, False)
    by_hand = 2 * 2 * 8 * 8 * 32 * (32 // groups) * 9
    of_images = (counted(groups, False, True) - forward) / forward
    of_weight = (counted(groups, True, False) - forward) / forward
    print(f"groups {groups}: image gradient / forward {of_images}, weight gradient / forward {of_weight}")
    assert forward == by_hand, "forward is counted right"
    assert of_images == 1, "the image gradient is counted right"
    assert of_weight == groups, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
