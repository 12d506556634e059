#!/usr/bin/env bash
# timm 1.0.31: freezing batch norms and unfreezing them again resets their momentum to 0.1.
#
# Behaviour: `freeze_batch_norm_2d` puts frozen layers in the place of batch norms, `unfreeze_batch_norm_2d` puts batch norms back, with
# their weights, statistics and eps. The frozen layers do not keep the momentum, so the new ones have torch's default. torchvision's
# MobileNetV3 (0.01) and MNASNet (0.0003) and each timm network made with `bn_momentum` then forget their statistics 10 to 333 times as
# fast as before; momentum None, the plain average, becomes 0.1 too. Nothing is said. The outputs in evaluation mode stay the same.
# Guess before: frozen and unfrozen, the module is the same, in momentum too.
# Seen (timm 1.0.31, torch 2.14.1, torchvision 0.29.1, Python 3.11, Linux x86-64), random weights:
#   torchvision mobilenet_v3_small: momentum 0.01 becomes 0.1, eps 0.001 becomes 0.001, outputs the same: True
#   torchvision mnasnet0_5: momentum 0.0003 becomes 0.1, eps 1e-05 becomes 1e-05, outputs the same: True
#   timm efficientnet_lite0, bn_momentum=0.01: momentum 0.01 becomes 0.1, eps 1e-05 becomes 1e-05, outputs the same: True
#   first running variance of MNASNet after one batch of dark images: 0.9997 before, 0.9000 after
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 timm==1.0.31
cat > "$folder/look.py" <<'PY'
import copy

import timm
import torch
import torchvision
from timm.utils.model import freeze_batch_norm_2d, unfreeze_batch_norm_2d
from torch import nn

NETWORKS = {
    "torchvision mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(),
    "torchvision mnasnet0_5": lambda: torchvision.models.mnasnet0_5(),
    "timm efficientnet_lite0, bn_momentum=0.01": lambda: timm.create_model("efficientnet_lite0", bn_momentum=0.01),
}


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


torch.manual_seed(0)
image = torch.randn(2, 3, 64, 64)
for name, make in NETWORKS.items():
    before = make().eval()
    after = unfreeze_batch_norm_2d(freeze_batch_norm_2d(copy.deepcopy(before))).eval()
    old, new = norms(before)[0], norms(after)[0]
    with torch.no_grad():
        same = torch.allclose(before(image), after(image), rtol=1e-4, atol=1e-5)
    momentum = f"momentum {old.momentum:.1g} becomes {new.momentum:.1g}"
    print(f"{name}: {momentum}, eps {old.eps:.1g} becomes {new.eps:.1g}, outputs the same: {same}")
    assert same and len(norms(before)) == len(norms(after)), "the behaviour has changed"
    assert old.momentum < 0.05 and all(norm.momentum == 0.1 for norm in norms(after)), "the behaviour has changed"
    if "mnasnet" in name:
        for model in (before, after):
            model.train()(image / 1000)
        told = [float(norms(model)[0].running_var[0]) for model in (before, after)]
print("first running variance of MNASNet after one batch of dark images: {:.4f} before, {:.4f} after".format(*told))
assert told[0] > 0.99 and told[1] < 0.95, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
