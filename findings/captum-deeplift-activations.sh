#!/usr/bin/env bash
# captum 0.9.0: DeepLift through ReLU6, PReLU, SiLU, GELU and others is plain gradient times input there, without a word.
#
# Behaviour: DeepLift's attributions sum to the change of the output against the baseline; that is what it is for. The rule is
# applied to a fixed list of classes (ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus, pooling, softmax). Every other activation,
# also ReLU6 and Hardswish of the mobile networks and SiLU of EfficientNet, is passed by its gradient alone, and the sum no longer
# holds: up to two thirds of the change are missing below. The warning about hooks is the same for all of them; only who asks for
# `return_convergence_delta` can see it. Integrated gradients hold for all.
# Guess before: the rule holds for any activation taken by itself, or one that it does not know is refused.
# Seen (captum 0.9.0, torch 2.14.1, Python 3.11, Linux x86-64; a convolution, the activation, a linear layer):
#   ReLU: more than 2 % of the change is missing: False, integrated gradients: False
#   LeakyReLU: more than 2 % of the change is missing: False, integrated gradients: False
#   ELU: more than 2 % of the change is missing: False, integrated gradients: False
#   Sigmoid: more than 2 % of the change is missing: False, integrated gradients: False
#   Tanh: more than 2 % of the change is missing: False, integrated gradients: False
#   Softplus: more than 2 % of the change is missing: False, integrated gradients: False
#   ReLU6: more than 2 % of the change is missing: True, integrated gradients: False
#   Hardtanh: more than 2 % of the change is missing: True, integrated gradients: False
#   PReLU: more than 2 % of the change is missing: True, integrated gradients: False
#   SiLU: more than 2 % of the change is missing: True, integrated gradients: False
#   Hardswish: more than 2 % of the change is missing: True, integrated gradients: False
#   GELU: more than 2 % of the change is missing: True, integrated gradients: False
#   Mish: more than 2 % of the change is missing: True, integrated gradients: False
#   SELU: more than 2 % of the change is missing: True, integrated gradients: False
#   CELU: more than 2 % of the change is missing: True, integrated gradients: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 captum==0.9.0
cat > "$folder/look.py" <<'PY'
import warnings

import torch
from captum.attr import DeepLift, IntegratedGradients
from torch import nn

warnings.simplefilter("ignore")
RIGHT = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus)
WRONG = (nn.ReLU6, nn.Hardtanh, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Mish, nn.SELU, nn.CELU)
torch.manual_seed(0)
image = 2 * torch.randn(8, 3, 12, 12)
black = torch.zeros_like(image)
convolution, head = nn.Conv2d(3, 8, 3), nn.Linear(800, 4)
for kind in RIGHT + WRONG:
    network = nn.Sequential(convolution, kind(), nn.Flatten(), head)
    change = (network(image) - network(black))[:, 1]
    missing = []
    for attributions in (
        DeepLift(network).attribute(image, black, target=1),
        IntegratedGradients(network).attribute(image, black, target=1, n_steps=200),
    ):
        missing.append(bool((attributions.flatten(1).sum(1) - change).norm() > 0.02 * change.norm()))
    print(f"{kind.__name__}: more than 2 % of the change is missing: {missing[0]}, integrated gradients: {missing[1]}")
    assert missing == [kind in WRONG, False], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
