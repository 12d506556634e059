#!/usr/bin/env bash
# prodigyopt 1.1.2, dadaptation 3.2: a group whose learning rate is set to 0 runs on, for ever, in the direction of its last step.
#
# Behaviour: `Prodigy` and `DAdaptAdam` refuse different learning rates but for 0, which is to freeze a group. At 0 they stop to update the
# averages of the group and go on to add them to its weights, at the rate of the other groups. Weights that are frozen in the middle of training
# go straight on and away. Weights that are frozen from the start stay, but weight decay shrinks them, and with a `beta1` of 0 Prodigy makes
# them NaN. `DAdaptLion` lets 0 pass and trains the group like the others; `DAdaptAdaGrad` and `DAdaptAdan` take the rate of one group for
# all. `DAdaptSGD` freezes. Nothing is said.
# Guess before: a group with a rate of 0 stays where it is, as with torch's optimisers.
# Seen (prodigyopt 1.1.2, dadaptation 3.2, torch 2.14.1, Python 3.11, Linux x86-64), distance moved while frozen, by the distance to the goal:
#   AdamW: frozen from the start 0.00, from step 30 to 100 0.00, to 200 0.00
#   Prodigy: frozen from the start 0.00, from step 30 to 100 13.59, to 200 33.00
#   DAdaptAdam: frozen from the start 0.00, from step 30 to 100 20.87, to 200 50.70
#   DAdaptLion: frozen from the start 0.82, from step 30 to 100 1.26, to 200 0.81
#   DAdaptAdaGrad: frozen from the start 1.00, from step 30 to 100 0.07, to 200 1.00
#   DAdaptAdan: frozen from the start 0.92, from step 30 to 100 1.41, to 200 1.45
#   DAdaptSGD: frozen from the start 0.00, from step 30 to 100 0.00, to 200 0.00
#   AdamW: frozen from the start, weight decay 0.1: 0.00
#   Prodigy: frozen from the start, weight decay 0.1: 0.25
#   DAdaptAdam: frozen from the start, weight decay 0.1: 0.25
#   Prodigy: frozen from the start, beta1 of 0: nan
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 prodigyopt==1.1.2 dadaptation==3.2
cat > "$folder/look.py" <<'PY'
import math

import dadaptation
import prodigyopt
import torch
from torch import nn

GOAL = 3.0


def moved(optimizer, frozen_at, steps, **settings):
    """Distance that the second of two groups moves from step ``frozen_at`` on, where its rate is 0, by that of its start to the goal."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(5)) for _ in range(2)]
    far = float((weights[1].detach() - GOAL).norm())
    steps_taken = optimizer([{"params": [weight]} for weight in weights], **settings)
    for step in range(steps):
        if step == frozen_at:
            steps_taken.param_groups[1]["lr"] = 0.0
            before = weights[1].detach().clone()
        steps_taken.zero_grad()
        sum(((weight - GOAL) ** 2).sum() for weight in weights).backward()
        steps_taken.step()
    return float((weights[1].detach() - before).norm()) / far


ADAPTED = [prodigyopt.Prodigy, *(getattr(dadaptation, f"DAdapt{name}") for name in ("Adam", "Lion", "AdaGrad", "Adan", "SGD"))]
found = {}
for optimizer in [torch.optim.AdamW, *ADAPTED]:
    settings = {"lr": 0.05} if optimizer is torch.optim.AdamW else {"lr": 1.0}
    found[optimizer.__name__] = [moved(optimizer, start, end, **settings) for start, end in ((0, 200), (30, 100), (30, 200))]
    print("{}: frozen from the start {:.2f}, from step 30 to 100 {:.2f}, to 200 {:.2f}".format(optimizer.__name__, *found[optimizer.__name__]))
decayed = {}
for optimizer, decoupled in ((torch.optim.AdamW, {"lr": 0.05}), (prodigyopt.Prodigy, {}), (dadaptation.DAdaptAdam, {"decouple": True})):
    decayed[optimizer.__name__] = moved(optimizer, 0, 200, weight_decay=0.1, **decoupled)
    print(f"{optimizer.__name__}: frozen from the start, weight decay 0.1: {decayed[optimizer.__name__]:.2f}")
without = moved(prodigyopt.Prodigy, 0, 200, betas=(0.0, 0.999))
print(f"Prodigy: frozen from the start, beta1 of 0: {without:.2f}")
assert found["AdamW"] == found["DAdaptSGD"] == [0.0] * 3 and decayed["AdamW"] == 0, "the behaviour has changed"
for name in ("Prodigy", "DAdaptAdam"):
    start, middle, long = found[name]
    assert start == 0 and middle > 10 and long > 2 * middle and decayed[name] > 0.1, "the behaviour has changed"
for name in ("DAdaptLion", "DAdaptAdaGrad", "DAdaptAdan"):
    assert found[name][0] > 0.5, "the behaviour has changed"
assert math.isnan(without), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
