#!/usr/bin/env bash
# peft 0.21.2, AdaLoRA on a network without a task type: its orthogonality penalty is never added to the loss.
#
# Behaviour: the penalty (`orth_reg_weight`, 0.5 by default) is added to `outputs.loss` by the inner `AdaLoraModel`. For a
# network without a task type, as convolutional ones are, the model that `get_peft_model` returns calls the bare network
# and passes the inner model by. So the singular vectors of the updates are not held orthogonal, although the method
# asks for it, and nothing is said.
# Guess before: the outer model calls the inner one, and the loss has the penalty.
# Seen (peft 0.21.2, torch 2.13.0, Python 3.11, Linux x86-64):
#   loss of the network: the same number from the model of get_peft_model: True
#   with orth_reg_weight 0.5 and 5.0: the same loss: True
#   the inner model adds a penalty: True, ten times as large for 5.0: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import warnings
from types import SimpleNamespace

import peft
import torch
from torch import nn

warnings.simplefilter("ignore")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=self.layer(images).square().mean())


def losses(weight: float) -> tuple[float, float, float]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 9, 9)
    network = Network()
    bare = network(images).loss.item()
    config = peft.AdaLoraConfig(target_modules=["layer"], total_step=100, orth_reg_weight=weight)
    tuned = peft.get_peft_model(network, config).train()
    return bare, tuned(images).loss.item(), tuned.base_model(images).loss.item()


bare, outer, inner = losses(0.5)
_, outer_more, inner_more = losses(5.0)
print("loss of the network: the same number from the model of get_peft_model:", outer == bare)
print("with orth_reg_weight 0.5 and 5.0: the same loss:", outer == outer_more)
ratio = (inner_more - bare) / (inner - bare)
print(f"the inner model adds a penalty: {inner > bare + 0.01}, ten times as large for 5.0: {abs(ratio - 10) < 0.01}")
assert outer == bare == outer_more, "the behaviour has changed"
assert inner > bare + 0.01, "the inner model adds the penalty"
assert abs(ratio - 10) < 0.01, "the penalty goes by its weight"
PY
"$folder/venv/bin/python" "$folder/look.py"
