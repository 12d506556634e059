#!/usr/bin/env bash
# timm 1.0.31: average pooling with "same" padding counts the zeros at the edge, also with count_include_pad=False.
#
# Behaviour: `AvgPool2dSame` pads the image by zeros itself and then pools it, so that the pooling sees no padding that it could leave out:
# the option does nothing, in the function `avg_pool2d_same` too; TensorFlow's average, which leaves the zeros out, is not to be had. timm's
# own ResNet-D ask for False where `output_stride` turns a stride into dilation: at the lower and right edge their shortcuts have
# half of the features, in the corner a quarter. Nothing is said. torch's own pooling, with padding in pixels, knows the option.
# Guess before: with count_include_pad=False the average of ones is one, at the edge too, as in TensorFlow.
# Seen (timm 1.0.31, torch 2.14.1, Python 3.11, Linux x86-64), an image of ones, lowest value after pooling:
#   AvgPool2dSame(3, 2): count_include_pad=True 0.44, False 0.44
#   AvgPool2dSame(2, 1): count_include_pad=True 0.25, False 0.25
#   avg_pool2d_same of 2 x 2: count_include_pad=True 0.25, False 0.25
#   torch's AvgPool2d(3, 2, padding=1): count_include_pad=True 0.44, False 1.00
#   resnet50d, output_stride=8: 2 such poolings, count_include_pad False, ones become 1.00 inside, 0.50 at the edge, 0.25 in the corner
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 timm==1.0.31
cat > "$folder/look.py" <<'PY'
import timm
import torch
from timm.layers.pool2d_same import AvgPool2dSame, avg_pool2d_same
from torch import nn

ones = torch.ones(1, 1, 9, 9)
for kernel, stride in ((3, 2), (2, 1)):
    told = [float(AvgPool2dSame(kernel, stride, count_include_pad=count)(ones).min()) for count in (True, False)]
    print(f"AvgPool2dSame({kernel}, {stride}): count_include_pad=True {told[0]:.2f}, False {told[1]:.2f}")
    assert told[0] == told[1] < 0.5, "the behaviour has changed"
told = [float(avg_pool2d_same(ones, (2, 2), (1, 1), count_include_pad=count).min()) for count in (True, False)]
print(f"avg_pool2d_same of 2 x 2: count_include_pad=True {told[0]:.2f}, False {told[1]:.2f}")
assert told == [0.25, 0.25], "the behaviour has changed"
told = [float(nn.AvgPool2d(3, 2, padding=1, count_include_pad=count)(ones).min()) for count in (True, False)]
print(f"torch's AvgPool2d(3, 2, padding=1): count_include_pad=True {told[0]:.2f}, False {told[1]:.2f}")
assert told[0] < 0.5 and told[1] == 1

model = timm.create_model("resnet50d", output_stride=8)
pools = [module for module in model.modules() if isinstance(module, AvgPool2dSame)]
assert pools and not any(pool.count_include_pad for pool in pools), "the behaviour has changed"
seen = [float(pools[0](ones)[0, 0, row, column]) for row, column in ((0, 0), (0, 8), (8, 8))]
words = "ones become {:.2f} inside, {:.2f} at the edge, {:.2f} in the corner".format(*seen)
print(f"resnet50d, output_stride=8: {len(pools)} such poolings, count_include_pad False, {words}")
assert seen == [1, 0.5, 0.25], "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
