#!/usr/bin/env bash
# timm 1.0.31: `features_only` with `out_indices` that do not rise returns the maps in one order and tells their channels in another.
#
# Behaviour: a decoder that starts from the coarsest map asks for `out_indices=(3, 1)` or `(-1, -3)`. The maps come in the order of
# the network, fine to coarse; `feature_info.channels()` and `.reduction()` answer in the order asked for, coarse to fine. Zipped,
# each map gets the width and the stride of another. Where all maps have one width nothing fails. transformers' backbones refuse
# such an order.
# Guess before: the maps may come sorted, but what `feature_info` says is in the order of the maps.
# Seen (timm 1.0.31, torch 2.14.1, Python 3.11, Linux x86-64), out_indices=(3, 1):
#   resnet18: maps have [64, 256] channels, told [256, 64] at strides [16, 4]
#   efficientnet_lite0: maps have [24, 112] channels, told [112, 24] at strides [16, 4]
#   mobilenetv3_small_100: maps have [16, 48] channels, told [48, 16] at strides [16, 4]
#   convnext_atto: maps have [80, 320] channels, told [320, 80] at strides [32, 8]
#   hrnet_w18_small: maps have [128, 512] channels, told [512, 128] at strides [16, 4]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 timm==1.0.31
cat > "$folder/look.py" <<'PY'
import timm
import torch

NAMES = ("resnet18", "efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto", "hrnet_w18_small")
image = torch.randn(1, 3, 64, 64)
for name in NAMES:
    for asked in ((3, 1), (-1, -3), (1, 3)):
        model = timm.create_model(name, features_only=True, out_indices=asked).eval()
        with torch.no_grad():
            given = [features.shape[1] for features in model(image)]
        told = model.feature_info.channels()
        if asked == (3, 1):
            print(f"{name}: maps have {given} channels, told {told} at strides {model.feature_info.reduction()}")
        if asked == (1, 3):
            assert given == told, "the behaviour has changed"
        else:
            assert given == told[::-1], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
