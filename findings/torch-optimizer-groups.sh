#!/usr/bin/env bash
# torch-optimizer 0.3.0: RAdam moves every group at the first group's learning rate, AdaBound never moves a group that is added later.
#
# Behaviour: RAdam keeps its step sizes, learning rate included, in a list that all groups share, so a head or a backbone with a rate of
# its own learns at the rate of the first group, and a group whose rate is 0 is not frozen. (An issue on it was closed as mended in 2020;
# groups whose `betas` differ have their own list.) AdaBound keeps the rates of the groups it starts with and passes over each group
# beyond them: layers that are unfrozen by `add_param_group` get gradients and stay where they are. Nothing is said. The other 22
# optimisers of the package that were tried move each group as if it were alone.
# Guess before: each group has its own learning rate, also one that is added late.
# Seen (torch-optimizer 0.3.0, torch 2.14.1, Python 3.11, Linux x86-64), distance that a group has moved after 40 steps, by itself alone:
#   RAdam, rate 0.0005 behind a group of 0.05: 1.000, alone 0.011
#   RAdam, rate 0 behind a group of 0.05: 1.000, alone 0.000
#   torch's own RAdam, rate 0.0005 behind a group of 0.05: 0.011, alone 0.011
#   AdaBound, added after 10 steps: 0.000, alone 1.000
#   Adam of torch, added after 10 steps: 1.000, alone 1.000
#   of 24 optimisers these move a group otherwise than alone: AdaBound, RAdam
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torch-optimizer==0.3.0
cat > "$folder/look.py" <<'PY'
import torch
import torch_optimizer
from torch import nn

OTHERS = "AccSGD AdaBelief AdaBound AdaMod Adafactor AdamP AggMo Apollo DiffGrad LARS Lamb NovoGrad PID QHAdam QHM RAdam"
OTHERS += " RangerQH SGDP SGDW SWATS Shampoo Yogi Ranger RangerVA"
SETTINGS = {"QHM": {"momentum": 0.9}, "Adafactor": {"relative_step": False, "scale_parameter": False}}


def moved(optimizer, rates, late=None, settings=None):
    """Distance of the last of the groups from its start, after 40 steps down a quadratic; ``late``: the step it is added at."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 3)) for _ in range(2)][2 - len(rates) :]
    before = weights[-1].detach().clone()
    groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, rates)]
    steps = optimizer(groups if late is None else groups[:1], lr=0.05, **(settings or {}))
    for step in range(40):
        if step == late:
            steps.add_param_group(groups[-1])
        steps.zero_grad()
        sum(((weight - 3) ** 2).sum() for weight in weights[: None if late is None or step >= late else 1]).backward()
        steps.step()
    return float((weights[-1].detach() - before).norm())


def alone(optimizer, rate, skipped=0, settings=None):
    torch.manual_seed(0)
    weight = [nn.Parameter(torch.randn(4, 3)) for _ in range(2)][1]
    before = weight.detach().clone()
    steps = optimizer([{"params": [weight], "lr": rate}], lr=0.05, **(settings or {}))
    for _ in range(40 - skipped):
        steps.zero_grad()
        ((weight - 3) ** 2).sum().backward()
        steps.step()
    return float((weight.detach() - before).norm())


radam, torchs = torch_optimizer.RAdam, torch.optim.RAdam
unit = alone(radam, 0.05)
for words, optimizer, rate in (("RAdam", radam, 0.0005), ("RAdam", radam, 0.0), ("torch's own RAdam", torchs, 0.0005)):
    found, wanted = moved(optimizer, [0.05, rate]) / unit, alone(optimizer, rate) / unit
    print(f"{words}, rate {rate:g} behind a group of 0.05: {found:.3f}, alone {wanted:.3f}")
    right = optimizer is torchs
    assert wanted < 0.1 and abs(found - (wanted if right else 1)) < 1e-3, "the behaviour has changed"
for words, optimizer in (("AdaBound", torch_optimizer.AdaBound), ("Adam of torch", torch.optim.Adam)):
    wanted = alone(optimizer, 0.05, 10)
    found = moved(optimizer, [0.05, 0.05], 10) / wanted
    print(f"{words}, added after 10 steps: {found:.3f}, alone 1.000")
    assert found == 0 if words == "AdaBound" else abs(found - 1) < 1e-6, "the behaviour has changed"
odd = set()
for name in OTHERS.split():
    optimizer, settings = getattr(torch_optimizer, name), SETTINGS.get(name)
    pairs = [(moved(optimizer, [0.05, 0.0005], None, settings), alone(optimizer, 0.0005, 0, settings))]
    pairs += [(moved(optimizer, [0.05, 0.05], 10, settings), alone(optimizer, 0.05, 10, settings))]
    if any(abs(found - wanted) > 1e-3 * max(wanted, 1e-3) for found, wanted in pairs):
        odd.add(name)
print(f"of {len(OTHERS.split())} optimisers these move a group otherwise than alone: {', '.join(sorted(odd))}")
assert odd == {"AdaBound", "RAdam"}, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
