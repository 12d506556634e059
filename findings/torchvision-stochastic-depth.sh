#!/usr/bin/env bash
# torchvision 0.29.1: pretrained ConvNeXt-B and Swin-B skip up to half of their residual branches while tuned; Swin's cannot be told.
#
# Behaviour: the builders set the stochastic depth of training from nothing, 0.5 in the last block of convnext_base, convnext_large,
# swin_b and swin_v2_b, also where pretrained weights are asked for: in train mode a network that is tuned, be it by its head
# or a few atoms alone, gives other features at each pass. timm has 0 for ConvNeXt-B, 0.1 for Swin-B. Of ConvNeXt and EfficientNet
# `stochastic_depth_prob=0` switches it off; of Swin and MaxViT the same argument is a TypeError, though their classes take it.
# Guess before: none unless asked for; and every builder passes its class's arguments on.
# Seen (torchvision 0.29.1, torch 2.14.1, timm 1.0.31, Python 3.11, Linux x86-64):
#   convnext_tiny 0.1, asked for 0: 0.0
#   convnext_base 0.5, asked for 0: 0.0
#   efficientnet_v2_s 0.2, asked for 0: 0.0
#   swin_t 0.2, asked for 0: TypeError
#   swin_b 0.5, asked for 0: TypeError
#   maxvit_t 0.2, asked for 0: TypeError
#   timm's convnext_base and swin_base_patch4_window7_224: 0.0 and 0.1
#   swin_t in train mode, one image ten times: 10 different outputs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 timm==1.0.31
cat > "$folder/look.py" <<'PY'
import timm
import torch
import torchvision
from timm.layers import DropPath
from torchvision.ops import StochasticDepth


def largest(model, kind, field):
    return round(max((getattr(m, field) or 0.0 for m in model.modules() if isinstance(m, kind)), default=0.0), 1)


def asked_for_none(build):
    try:
        return largest(build(stochastic_depth_prob=0.0), StochasticDepth, "p")
    except TypeError:
        return "TypeError"


seen = {}
for name in ("convnext_tiny", "convnext_base", "efficientnet_v2_s", "swin_t", "swin_b", "maxvit_t"):
    build = getattr(torchvision.models, name)
    seen[name] = largest(build(), StochasticDepth, "p"), asked_for_none(build)
    print(f"{name} {seen[name][0]}, asked for 0: {seen[name][1]}")
same = [largest(timm.create_model(n), DropPath, "drop_prob") for n in ("convnext_base", "swin_base_patch4_window7_224")]
print(f"timm's convnext_base and swin_base_patch4_window7_224: {same[0]} and {same[1]}")
torch.manual_seed(0)
model, image = torchvision.models.swin_t(dropout=0.0).train(), torch.randn(1, 3, 64, 64)
with torch.no_grad():
    passes = [model(image) for _ in range(10)]
distinct = 1 + sum(all(not torch.equal(one, other) for other in passes[:n]) for n, one in enumerate(passes) if n)
print(f"swin_t in train mode, one image ten times: {distinct} different outputs")
assert seen == {
    "convnext_tiny": (0.1, 0.0),
    "convnext_base": (0.5, 0.0),
    "efficientnet_v2_s": (0.2, 0.0),
    "swin_t": (0.2, "TypeError"),
    "swin_b": (0.5, "TypeError"),
    "maxvit_t": (0.2, "TypeError"),
}, "the behaviour has changed"
assert (same[0], distinct > 5) == (0.0, True), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
