#!/usr/bin/env bash
# peft 0.21.2, adapters of convolutions: the padding mode and the dilation of the layer are not kept.
#
# Behaviour: on a convolution with circular padding, LoRA, DoRA, LoHa, LoKr and HiRA pad the update with zeros, so
# merging changes the output at the borders, without a word; IA3 is right. On a dilated convolution, BOFT and HRA run
# the layer without its dilation: the fresh adapter, which promises to change nothing, changes the shape of the output.
# Guess before: an adapter that accepts a layer keeps all of its options, and merging computes the same function.
# Seen (peft 0.21.2, torch 2.13.0, Python 3.11, Linux x86-64; gap: largest difference over the largest output):
#   circular padding, LoRA: gap of merging above 0.01: True
#   circular padding, DoRA: gap of merging above 0.01: True
#   circular padding, LoHa: gap of merging above 0.01: True
#   circular padding, LoKr: gap of merging above 0.01: True
#   circular padding, HiRA: gap of merging above 0.01: True
#   circular padding, IA3: gap of merging above 0.01: False
#   dilation 2, BOFT: output (2, 16, 10, 10) becomes (2, 16, 12, 12) before any training
#   dilation 2, HRA: output (2, 16, 10, 10) becomes (2, 16, 12, 12) before any training
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import copy
import warnings

import peft
import torch
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)
images = torch.randn(2, 8, 14, 14)
merging = {
    "LoRA": peft.LoraConfig(r=4, target_modules=["layer"]),
    "DoRA": peft.LoraConfig(r=4, use_dora=True, target_modules=["layer"]),
    "LoHa": peft.LoHaConfig(r=4, target_modules=["layer"]),
    "LoKr": peft.LoKrConfig(r=4, target_modules=["layer"]),
    "HiRA": peft.HiraConfig(r=4, target_modules=["layer"]),
    "IA3": peft.IA3Config(target_modules=["layer"], feedforward_modules=[]),
}
for name, config in merging.items():
    base = nn.Sequential()
    base.add_module("layer", nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular"))
    tuned = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
        before = tuned(images)
        after = copy.deepcopy(tuned).merge_and_unload()(images)
    wrong = ((after - before).abs().max() / before.abs().max()).item() > 0.01
    print(f"circular padding, {name}: gap of merging above 0.01: {wrong}")
    assert wrong == (name != "IA3"), "the behaviour has changed"
rotating = {
    "BOFT": peft.BOFTConfig(boft_block_size=4, target_modules=["layer"]),
    "HRA": peft.HRAConfig(r=4, target_modules=["layer"]),
}
for name, config in rotating.items():
    base = nn.Sequential()
    base.add_module("layer", nn.Conv2d(8, 16, 3, dilation=2))
    with torch.no_grad():
        before = tuple(base(images).shape)
        after = tuple(peft.get_peft_model(base, config).eval()(images).shape)
    print(f"dilation 2, {name}: output {before} becomes {after} before any training")
    assert before != after, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
