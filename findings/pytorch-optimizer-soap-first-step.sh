#!/usr/bin/env bash
# pytorch-optimizer 4.1.0, SOAP: the first call of `step` moves no parameter.
#
# Behaviour: the first gradient only starts the two curvature matrices and their bases; the parameters stay as they are,
# silently. With one step a stage (a learning rate warmed up from its first step, gradients accumulated over an epoch, few
# steps in all) that is a step less than counted.
# Guess before: the first step is one of Adam, or one in the bases of the first gradient.
# Seen (pytorch-optimizer 4.1.0, torch 2.14.1, Python 3.11, Linux x86-64):
#   step 1: parameters move: False
#   step 2: parameters move: True
#   step 3: parameters move: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 pytorch-optimizer==4.1.0
cat > "$folder/look.py" <<'PY'
import torch
from pytorch_optimizer import SOAP

torch.manual_seed(0)
layer = torch.nn.Conv2d(3, 4, 3)
optimizer = SOAP(layer.parameters(), lr=1e-2)
images = torch.randn(4, 3, 8, 8)
moved = []
for step in range(1, 4):
    before = [weight.detach().clone() for weight in layer.parameters()]
    optimizer.zero_grad()
    layer(images).square().mean().backward()
    optimizer.step()
    moved.append(any(not torch.equal(new, old) for new, old in zip(layer.parameters(), before, strict=True)))
    print(f"step {step}: parameters move: {moved[-1]}")
assert moved == [False, True, True], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
