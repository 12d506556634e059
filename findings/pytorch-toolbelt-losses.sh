#!/usr/bin/env bash
# pytorch-toolbelt 0.8.0: the Lovász loss punishes certainty, the reduced focal loss weighs easy pixels most, `ignore_index` drops others.
#
# Behaviour: `LovaszLoss` names its input "logits", and the README adds it to the focal loss, which takes logits; it applies no softmax, so
# it pulls the logits to 0 and 1: three classes stop at a probability of 0.58, and surer answers cost more. (`BinaryLovaszLoss` does take
# logits.) `CrossEntropyFocalLoss` with `reduced_threshold` has the two sides of the threshold exchanged: pixels that are right count in
# full, and pixels that are wrong get the power of the focal term, above 1. (`BinaryFocalLoss` has them in order.) `SoftF1Loss` compares
# `ignore_index` with one-hot entries: 0 drops every negative, 1 makes the loss 1 without a gradient, others ignore
# nothing and pool the classes.
# Guess before: each loss equals its formula on logits; ignored targets change neither the loss nor a gradient.
# Seen (pytorch-toolbelt 0.8.0, torch 2.14.1, Python 3.11, Linux x86-64):
#   Lovász loss of right answers with a logit of 1: 0.000, of 5: 4.000, of 10: 9.000; of zeros: 1.000
#   logits that it has trained: probability 0.576 of the right class; behind a softmax 1.00
#   weight of a pixel whose class has a probability of 0.1: softmax 3.24, binary 1.00
#   weight of a pixel whose class has a probability of 0.3: softmax 1.96, binary 1.00
#   weight of a pixel whose class has a probability of 0.9: softmax 1.00, binary 0.04
#   weight of a pixel whose class has a probability of 0.99: softmax 1.00, binary 0.00
#   soft F1 ignoring class 0: 0.492, without its rows 0.693, largest gradient 0.043, at ignored rows 0.043
#   soft F1 ignoring class 1: 1.000, without its rows 0.696, largest gradient 0.000, at ignored rows 0.000
#   soft F1 ignoring class 2: 0.660, without its rows 0.763, largest gradient 0.039, at ignored rows 0.033
#   soft F1 ignoring class 3: 0.660, without its rows 0.713, largest gradient 0.039, at ignored rows 0.035
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  opencv-python-headless==5.0.0.93
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pytorch-toolbelt==0.8.0
cat > "$folder/look.py" <<'PY'
import math

import torch
from pytorch_toolbelt.losses import BinaryFocalLoss, CrossEntropyFocalLoss, LovaszLoss, SoftF1Loss
from torch.nn.functional import one_hot

torch.manual_seed(0)
labels = torch.randint(0, 3, (2, 8, 8))
right = one_hot(labels, 3).movedim(-1, 1).float()
cost = {logit: float(LovaszLoss()(logit * right, labels)) for logit in (1, 5, 10, 0)}
print("Lovász loss of right answers with a logit of " + ", of ".join(f"{logit}: {cost[logit]:.3f}" for logit in (1, 5, 10)), end="")
print(f"; of zeros: {cost[0]:.3f}")
assert cost[1] == 0 and abs(cost[5] - 4) < 1e-5 and abs(cost[10] - 9) < 1e-5 and cost[0] == 1, "the behaviour has changed"


def trained(activation):
    """Smallest probability of the right class after training free logits."""
    logits = torch.zeros_like(right, requires_grad=True)
    steps = torch.optim.Adam([logits], lr=0.1)
    for step in range(400):
        steps.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        steps.zero_grad()
        LovaszLoss()(activation(logits), labels).backward()
        steps.step()
    return float((logits.softmax(1) * right).sum(1).min())


plain, behind = trained(lambda logits: logits), trained(lambda logits: logits.softmax(1))
print(f"logits that it has trained: probability {plain:.3f} of the right class; behind a softmax {behind:.2f}")
assert abs(plain - math.e / (math.e + 2)) < 0.02 and behind > 0.9, "the behaviour has changed"

for chance in (0.1, 0.3, 0.9, 0.99):
    pair, one = torch.tensor([[math.log(chance), math.log(1 - chance)]]), torch.tensor([[math.log(chance / (1 - chance))]])
    cases = {CrossEntropyFocalLoss: (pair, torch.tensor([0])), BinaryFocalLoss: (one, torch.ones(1, 1))}
    weights = [float(loss(reduced_threshold=0.5)(*given) / loss(gamma=0.0)(*given)) for loss, given in cases.items()]
    print(f"weight of a pixel whose class has a probability of {chance}: softmax {weights[0]:.2f}, binary {weights[1]:.2f}")
    damped = ((1 - chance) / 0.5) ** 2
    wanted = (damped, 1) if chance < 0.5 else (1, damped)
    assert all(abs(a - b) < 1e-3 for a, b in zip(weights, wanted)), "the behaviour has changed"

logits, targets = torch.randn(6, 4, requires_grad=True), torch.tensor([0, 1, 2, 3, 1, 0])
pooled = float(1 - 2 * (logits.softmax(1) * one_hot(targets, 4)).sum() / 12)  # all classes in one, nothing ignored
for ignored in range(4):
    loss, left = SoftF1Loss(ignore_index=ignored)(logits, targets), targets != ignored
    slope = torch.autograd.grad(loss, logits)[0].abs()
    wanted, largest, there = float(SoftF1Loss()(logits[left], targets[left])), float(slope.max()), float(slope[~left].max())
    print(f"soft F1 ignoring class {ignored}: {float(loss):.3f}, without its rows {wanted:.3f},", end=" ")
    print(f"largest gradient {largest:.3f}, at ignored rows {there:.3f}")
    assert abs(float(loss) - wanted) > 0.01, "the behaviour has changed"
    assert (largest == 0 and loss == 1) if ignored == 1 else there > 0.01, "the behaviour has changed"
    assert ignored < 2 or abs(float(loss) - pooled) < 1e-5, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
