#!/usr/bin/env bash
# lora-pytorch 0.2.0: no gradient passes the frozen layers, so that all LoRA layers but the last learn from a wrong one.
#
# Behaviour: an adapted layer computes W x without a graph and adds B A x. The error therefore flows back through B A alone, not through
# W: at the start, where B is 0, every layer before the last gets a gradient of exactly 0, and later one of another size and often
# another sign than the loss has. (The README says that gradients "from the original model" are not tracked; the loss does depend on
# them.) Where kernels are grouped, the low-rank branch joins all groups and the merged kernel cannot: merging changes the
# network. Circular padding of a convolution becomes zeros in the branch and not in the merged kernel. Nothing is said.
# Guess before: gradients are the slopes of the loss, and merging leaves the output as it was.
# Seen (lora-pytorch 0.2.0, torch 2.14.1, Python 3.11, Linux x86-64), two convolutions and a linear layer, one random direction each:
#   B is 0: gradient 0.0000 0.0000 -0.3067, slope of the loss 0.0019 -0.0031 -0.3067
#   later: gradient -0.0002 -0.0006 0.0340, slope of the loss -0.0083 0.0027 0.0340
#   plain: merging changes the output by 0.00
#   two groups: merging changes the output by 0.62
#   circular: merging changes the output by 0.71
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 lora-pytorch==0.2.0
cat > "$folder/look.py" <<'PY'
import torch
from lora_pytorch import LoRA
from torch import nn

torch.set_default_dtype(torch.float64)


def adapted(**settings):
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 8, 3, padding=1, **settings), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1, **settings), nn.Tanh()]
    return LoRA.from_module(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 3)), rank=2)


def redraw(model, std):
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight.data, std=std)


def loss():
    return model(images).square().mean()


torch.manual_seed(2)
images = torch.randn(5, 4, 6, 6)
model = adapted()
for title in ("B is 0", "later"):
    if title == "later":
        redraw(model, 0.1)
    matrices = list(model.parameters())[1::2]  # B of each layer; A comes before it
    gradients = torch.autograd.grad(loss(), matrices)
    given, slopes = [], []
    for matrix, gradient in zip(matrices, gradients):
        direction = torch.randn_like(matrix)
        direction /= direction.norm()
        given.append(float((gradient * direction).sum()))
        with torch.no_grad():
            matrix += 1e-5 * direction
            above = loss()
            matrix -= 2e-5 * direction
            slopes.append(float(above - loss()) / 2e-5)
            matrix += 1e-5 * direction
    words = [" ".join(f"{value:.4f}" for value in values) for values in (given, slopes)]
    print(f"{title}: gradient {words[0]}, slope of the loss {words[1]}")
    gaps = [abs(one - other) / abs(other) for one, other in zip(given, slopes)]
    assert min(gaps[:2]) > 0.05 and gaps[2] < 1e-6, "the behaviour has changed"
    assert title == "later" or given[:2] == [0, 0], "the behaviour has changed"

for title, settings in {"plain": {}, "two groups": {"groups": 2}, "circular": {"padding_mode": "circular"}}.items():
    model = adapted(**settings)
    redraw(model, 0.3)
    with torch.no_grad():
        before, after = model(images), model.merge_lora()(images)
    gap = float((after - before).abs().max() / before.abs().max())
    print(f"{title}: merging changes the output by {gap:.2f}")
    assert (gap < 1e-9) == (title == "plain") and (title == "plain" or gap > 0.1), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
