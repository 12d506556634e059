#!/usr/bin/env bash
# pytorch-optimizer 4.1.0 and schedulefree 1.4.1: a parameter that is unfrozen late takes a first step of up to 20 learning rates.
#
# Behaviour: a parameter without a gradient is left alone, and its moments begin at its first gradient, but the correction of their bias
# counts the steps of the whole group. After 500 steps the correction is 1: the second moment of a new parameter is a
# thousandth of its gradient's square, or the first moment a tenth of its gradient. LaProp then moves by 20 learning rates where a fresh
# optimiser moves by one, ADOPT takes its first step from nothing, StableAdamW and AdaMax move by a tenth. In schedule-free AdamW the
# point z jumps by 20. torch, timm 1.0.31 and pytorch-optimizer's AdamW (torch's) count the steps of each parameter. Who meets
# it: a backbone that is unfrozen after its head, branches that are skipped at first. Cure: a new group, or a new optimiser.
# Guess before: the first step of a parameter is one learning rate, whenever its first gradient comes, as in torch.
# Seen (pytorch-optimizer 4.1.0, schedulefree 1.4.1, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), mean step / learning rate:
#   pytorch-optimizer adamw: fresh 1.00, after 500 steps of others 1.00
#   pytorch-optimizer laprop: fresh 1.00, after 500 steps of others 19.86
#   pytorch-optimizer stableadamw: fresh 1.00, after 500 steps of others 0.10
#   pytorch-optimizer adamax: fresh 1.00, after 500 steps of others 0.10
#   pytorch-optimizer adabound: fresh 1.00, after 500 steps of others 3.03
#   pytorch-optimizer adopt: fresh 0.00, after 500 steps of others 0.47
#   schedulefree AdamW, point z: fresh 1.00, after 500 steps of others 19.86
#   torch AdamW: fresh 1.00, after 500 steps of others 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 pytorch-optimizer==4.1.0 schedulefree==1.4.1
cat > "$folder/look.py" <<'PY'
import torch
from pytorch_optimizer import load_optimizer
from schedulefree import AdamWScheduleFree

RATE = 1e-3
EXPECTED = {"adamw": (1, 1), "laprop": (1, 20), "stableadamw": (1, 0.1), "adamax": (1, 0.1), "adabound": (1, 3), "adopt": (0, 0.5)}


def schedule_free(parameters):
    optimizer = AdamWScheduleFree(parameters, lr=RATE)
    optimizer.train()
    return optimizer


def first_step(make, before):
    """Of a parameter whose gradients begin after ``before`` steps of another one."""
    torch.manual_seed(0)
    early, late = (torch.nn.Parameter(torch.randn(16, 16)) for _ in range(2))
    optimizer = make([early, late])
    for step in range(before + 1):
        early.grad = torch.randn(16, 16)
        late.grad = torch.randn(16, 16) if step == before else None
        start = late.detach().clone()
        optimizer.step()
    place = optimizer.state[late].get("z", late) if make is schedule_free else late
    return float((place - start).abs().mean()) / RATE


for name, expected in EXPECTED.items():
    found = [first_step(lambda parameters: load_optimizer(name)(parameters, lr=RATE), before) for before in (0, 500)]
    print(f"pytorch-optimizer {name}: fresh {found[0]:.2f}, after 500 steps of others {found[1]:.2f}")
    assert all(abs(value - wanted) < 0.2 * wanted + 0.01 for value, wanted in zip(found, expected)), "the behaviour has changed"
found = [first_step(schedule_free, before) for before in (0, 500)]
print(f"schedulefree AdamW, point z: fresh {found[0]:.2f}, after 500 steps of others {found[1]:.2f}")
assert abs(found[0] - 1) < 0.1 and found[1] > 15, "the behaviour has changed"
found = [first_step(lambda parameters: torch.optim.AdamW(parameters, lr=RATE, weight_decay=0), before) for before in (0, 500)]
print(f"torch AdamW: fresh {found[0]:.2f}, after 500 steps of others {found[1]:.2f}")
assert all(abs(value - 1) < 0.1 for value in found), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
