#!/usr/bin/env bash
# peft 0.21.2, HRA with `apply_GS=True`: a fresh adapter changes the network, and can be NaN in narrow layers.
#
# Behaviour: HRA multiplies the weight by reflections. They start as equal pairs, and two equal reflections cancel, so a fresh
# adapter is the identity. With `apply_GS=True` the vectors are first made orthogonal to each other: of each pair nothing is left
# of the second one but rounding, which is then scaled to length 1, a direction that nobody chose. Where the rounding is exactly
# 0 the output is NaN. Nothing is said.
# Guess before: a fresh HRA adapter computes what the layer computed, with and without `apply_GS`.
# Seen (peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64; change of the output by a fresh adapter, by norm):
#   linear, 64 inputs: at most 0.000; with apply_GS at least 0.05: True
#   linear, 768 inputs: at most 0.000; with apply_GS at least 0.05: True
#   convolution, 64 channels, 3 x 3: at most 0.000; with apply_GS at least 0.05: True
#   linear, 8 inputs, with apply_GS: some of 20 seeds give NaN: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import peft
import torch
from torch import nn


def change(build, images, orthogonal, seed):
    torch.manual_seed(seed)
    network = nn.Sequential()
    network.add_module("layer", build())
    with torch.no_grad():
        before = network(images)
        config = peft.HRAConfig(r=4, apply_GS=orthogonal, target_modules=["layer"])
        after = peft.get_peft_model(network, config).eval()(images)
        return float((after - before).norm() / before.norm())


torch.manual_seed(0)
LAYERS = {
    "linear, 64 inputs": (lambda: nn.Linear(64, 64), torch.randn(16, 64)),
    "linear, 768 inputs": (lambda: nn.Linear(768, 64), torch.randn(16, 768)),
    "convolution, 64 channels, 3 x 3": (lambda: nn.Conv2d(64, 64, 3), torch.randn(4, 64, 8, 8)),
}
for name, (build, images) in LAYERS.items():
    plain = max(change(build, images, False, seed) for seed in range(3))
    least = min(change(build, images, True, seed) for seed in range(3))
    print(f"{name}: at most {plain:.3f}; with apply_GS at least 0.05: {least > 0.05}")
    assert plain < 1e-4 and least > 0.05, "the behaviour has changed"
narrow = [change(lambda: nn.Linear(8, 16), torch.randn(16, 8), True, seed) for seed in range(20)]
wrong = sum(value != value for value in narrow)
print(f"linear, 8 inputs, with apply_GS: some of 20 seeds give NaN: {wrong > 0}")
assert wrong, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
