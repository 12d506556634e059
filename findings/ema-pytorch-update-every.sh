#!/usr/bin/env bash
# ema-pytorch 0.8.3: averages that are updated every k-th step have the decay of one step, so they average over k times as long.
#
# Behaviour: `update_every` is "to save on compute (updates every 10th .update() call)". The decay of an update is that of one step, not of
# the k steps since the last update. `EMA` with beta 0.999 and `update_every=10` has the horizon of 0.9999. `KarrasEMA` and `PostHocEMA`
# (whose default is 100) lose their power profile (1 - 1 / step)^(gamma + 1): the first weights keep a share that hardly fades.
# After 10,000 steps with sigma_rel = 0.1 and the default, two thirds of the average are the weights that training began with. A model
# synthesised from two tracked ones is no longer the one that is tracked at its sigma_rel. With `update_every=1` all is right.
# Guess before: the average follows its formula; a synthesised model is within 5 % of one tracked at its sigma_rel.
# Seen (ema-pytorch 0.8.3, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   share of the first weights after 10,000 steps, sigma_rel 0.1: update_every 1 0.000, 10 0.003, 100 0.664
#   share of the first weights after 10,000 steps, sigma_rel 0.28: update_every 1 0.000, 10 0.428, 100 0.942
#   share of old weights after 3,000 steps, beta 0.999: update_every 1 0.050, 10 0.741
#   synthesised at sigma_rel 0.1, away from the tracked one: update_every 1 0.000, 10 2.156
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 ema-pytorch==0.8.3
cat > "$folder/look.py" <<'PY'
import torch
from ema_pytorch import EMA, KarrasEMA, PostHocEMA
from torch import nn


def share_of_ones(average, model, ones, zeros):
    """Of weights that are one for some steps, then zero."""
    with torch.no_grad():
        for value, steps in ((1.0, ones), (0.0, zeros)):
            model.weight.fill_(value)
            for _ in range(steps):
                average.update()
    return float(average.ema_model.weight)


def shown(found):
    return ", ".join(f"{every} {value:.3f}" for every, value in found.items())


def layer(side=1):
    torch.manual_seed(0)
    return nn.Linear(side, side, bias=False)


for sigma in (0.1, 0.28):
    found = {}
    for every in (1, 10, 100):
        model = layer()
        found[every] = share_of_ones(KarrasEMA(model, sigma_rel=sigma, update_every=every), model, 1, 9999)
    print(f"share of the first weights after 10,000 steps, sigma_rel {sigma}: update_every {shown(found)}")
    assert found[1] < 0.001 and found[100] > 0.6, "the behaviour has changed"
model = layer()
default = share_of_ones(KarrasEMA(model, sigma_rel=0.28), model, 1, 9999)
assert default == found[100], "the default has changed"

found = {}
for every in (1, 10):
    model = layer()
    average = EMA(model, beta=0.999, update_every=every, update_after_step=0, power=1.0)
    found[every] = share_of_ones(average, model, 30000, 3000)
print(f"share of old weights after 3,000 steps, beta 0.999: update_every {shown(found)}")
assert abs(found[1] - 0.999**3000) < 0.001 and abs(found[10] - 0.999**300) < 0.001, "the behaviour has changed"

found = {}
for every in (1, 10):
    model = layer(4)
    several = PostHocEMA(
        model,
        sigma_rels=(0.05, 0.28),
        update_every=every,
        checkpoint_every_num_steps=100,
        checkpoint_folder=f"every{every}",
        checkpoint_dtype=torch.float32,
    )
    tracked = KarrasEMA(model, sigma_rel=0.1, update_every=every)
    for step in range(2000):
        with torch.no_grad():
            model.weight.copy_(torch.sin(torch.arange(16).reshape(4, 4) * 0.3 + step / 300))
        several.update()
        tracked.update()
    right = tracked.ema_model.weight
    found[every] = float((several.synthesize_ema_model(sigma_rel=0.1).ema_model.weight - right).norm() / right.norm())
print(f"synthesised at sigma_rel 0.1, away from the tracked one: update_every {shown(found)}")
assert found[1] < 0.01 and found[10] > 0.5, "the behaviour has changed"
PY
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore look.py
