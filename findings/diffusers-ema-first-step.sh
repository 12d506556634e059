#!/usr/bin/env bash
# diffusers 0.42.1, `diffusers.training_utils.EMAModel`: the average forgets the weights that training began with.
#
# Behaviour: the decay of an update is (1 + t) / (10 + t), capped, but the first update (t = 0) takes 0 instead of 1/10, and the
# second 2/11: after one step the average is the trained weights alone, whatever decay was asked for. With `update_after_step=N`
# each of the first N + 1 updates copies the weights anew, so the average begins at a network that has been trained for N steps.
# Guess before: (1 + t) / (10 + t) from the first update on, so that a tenth of the pretrained weights stays in after one step.
# Seen (torch 2.13.0, Python 3.11, Linux x86-64), from weights 0, all later weights 1:
#   decay of updates 1 to 4: 0.000, 0.182, 0.250, 0.308
#   average after 1 update: 1.000
#   with update_after_step=3, decay of updates 1 to 6: 0.000, 0.000, 0.000, 0.000, 0.182, 0.250
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 diffusers==0.42.1
cat > "$folder/look.py" <<'PY'
import torch
from diffusers.training_utils import EMAModel
from torch import nn


def decays(count, **settings):
    weight = nn.Parameter(torch.zeros(1))
    average, found = EMAModel([weight], decay=0.9999, **settings), []
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(count):
        average.step([weight])
        found.append(average.cur_decay_value)
    return [f"{decay:.3f}" for decay in found], float(average.shadow_params[0])


plain, _ = decays(4)
_, once = decays(1)
later, _ = decays(6, update_after_step=3)
print(f"decay of updates 1 to 4: {', '.join(plain)}")
print(f"average after 1 update: {once:.3f}")
print(f"with update_after_step=3, decay of updates 1 to 6: {', '.join(later)}")
assert plain == ["0.000", "0.182", "0.250", "0.308"], "the behaviour has changed"
assert once == 1.0, "the behaviour has changed"
assert later == ["0.000"] * 4 + ["0.182", "0.250"], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
