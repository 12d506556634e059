#!/usr/bin/env bash
# peft 0.21.2: LoRA and DoRA of a dilated convolution with padding "same" compute the update without the dilation.
#
# Behaviour: the first of LoRA's two convolutions takes over kernel size, stride and padding of the layer, but not its dilation. With
# padding "same" the shapes fit all the same: training tunes an undilated update, and merging puts it into the dilated kernel, where it
# is another function. Nothing is said. With the padding in pixels the shapes differ, and the first pass fails. HiRA, LoHa and
# LoKr dilate their update and merge to the last digits.
# Guess before: an adapter that accepts a layer keeps all of its options, and merging computes the same function.
# Seen (peft 0.21.2, torch 2.13.0, Python 3.11, Linux x86-64), largest change of the output by merging over the largest output:
#   dilation 1: LoRA 0.00, DoRA 0.00, LoRA with bias 0.00, HiRA 0.00, LoHa 0.00, LoKr 0.00
#   dilation 2: LoRA 0.93, DoRA 0.96, LoRA with bias 1.29, HiRA 0.00, LoHa 0.00, LoKr 0.00
#   update at dilation 2: equal to an undilated convolution with lora_A, then lora_B
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import copy

import torch
from peft import HiraConfig, LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import conv2d

CONFIGS = {
    "LoRA": lambda: LoraConfig(target_modules=["0"], r=4, init_lora_weights=False),
    "DoRA": lambda: LoraConfig(target_modules=["0"], r=4, init_lora_weights=False, use_dora=True),
    "LoRA with bias": lambda: LoraConfig(target_modules=["0"], r=4, init_lora_weights=False, lora_bias=True),
    "HiRA": lambda: HiraConfig(target_modules=["0"], r=4, init_weights=False),
    "LoHa": lambda: LoHaConfig(target_modules=["0"], r=4, init_weights=False),
    "LoKr": lambda: LoKrConfig(target_modules=["0"], r=4, init_weights=False),
}
image = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
for dilation in (1, 2):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3, padding="same", dilation=dilation))
    gaps = {}
    for name, config in CONFIGS.items():
        model = get_peft_model(copy.deepcopy(network), config()).eval()
        with torch.no_grad():
            output = model(image)
            if name == "LoRA":
                layer = model.base_model.model[0]
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                update = conv2d(conv2d(image, down, padding="same"), up) * layer.scaling["default"]
                undilated = torch.allclose(output - network(image), update, atol=1e-4)
            gaps[name] = float((model.merge_and_unload()(image) - output).abs().max() / output.abs().max())
    print(f"dilation {dilation}: {', '.join(f'{name} {gap:.2f}' for name, gap in gaps.items())}")
    wrong = [name for name, gap in gaps.items() if gap > 1e-4]
    assert wrong == ([] if dilation == 1 else ["LoRA", "DoRA", "LoRA with bias"]), "the behaviour has changed"
assert undilated, "the behaviour has changed"
print("update at dilation 2: equal to an undilated convolution with lora_A, then lora_B")
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
