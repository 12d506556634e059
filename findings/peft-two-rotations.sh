#!/usr/bin/env bash
# peft 0.21.2: two OFT or C3A adapters, active together, merge into another network than the one that runs.
#
# Behaviour: with two active OFT adapters a layer rotates its input by the first and then by the second. Merging rotates
# the weight by the first and then by the second, which is the other order, and rotations do not commute. Linear layers
# and convolutions of 1 x 1 alike; merging with the names in reverse gives the network that ran. C3A passes what
# the first adapter put out to the second as its input, while merging adds both to the weight; no order of names is
# right. One adapter at a time is merged rightly, two of BOFT, LoRA, DoRA, LoHa, LoKr, HRA, HiRA, IA3 or VeRA too.
# Guess before: `merge_and_unload` of the active adapters computes what the model with them computes.
# Seen (peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64), share of the output that merging has changed:
#   OFT, linear: one adapter 0.00, two 0.11, two merged in reverse 0.00
#   OFT, 1 x 1: one adapter 0.00, two 0.12, two merged in reverse 0.00
#   C3A, linear: one adapter 0.00, two 0.12, two merged in reverse 0.12
#   BOFT, linear: one adapter 0.00, two 0.00, two merged in reverse 0.06
#   BOFT, 1 x 1: one adapter 0.00, two 0.00, two merged in reverse 0.08
#   LoRA, linear: one adapter 0.00, two 0.00, two merged in reverse 0.00
#   LoRA, 1 x 1: one adapter 0.00, two 0.00, two merged in reverse 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import copy
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
from peft import BOFTConfig, C3AConfig, LoraConfig, OFTConfig, get_peft_model  # noqa: E402

METHODS = {
    "OFT": lambda: OFTConfig(target_modules=["0"], oft_block_size=4),
    "C3A": lambda: C3AConfig(target_modules=["0"], block_size=4),
    "BOFT": lambda: BOFTConfig(target_modules=["0"], boft_block_size=4),
    "LoRA": lambda: LoraConfig(target_modules=["0"]),
}
LAYERS = {"linear": (nn.Linear, (16, 16), (5, 16)), "1 x 1": (nn.Conv2d, (16, 16, 1), (2, 16, 6, 6))}


def merging_changes(method, kind, used, merged):
    """Share of the output of the adapters ``used`` that is another after merging them in the order ``merged``."""
    layer, sizes, shape = LAYERS[kind]
    torch.manual_seed(0)
    base, x = nn.Sequential(layer(*sizes)).eval(), torch.randn(shape)
    model = get_peft_model(base, METHODS[method](), adapter_name="a")
    model.add_adapter("b", METHODS[method]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".a" in name or ".b" in name:  # trained a little
                parameter += 0.1 * torch.randn_like(parameter)
        model.base_model.set_adapter(used)
        wanted = model.eval()(x)
        found = copy.deepcopy(model).merge_and_unload(adapter_names=merged)(x)
    return float((found - wanted).norm() / wanted.norm())


for method in METHODS:
    for kind in ("linear",) if method == "C3A" else LAYERS:  # C3A takes linear layers alone
        one = merging_changes(method, kind, ["a"], ["a"])
        two = merging_changes(method, kind, ["a", "b"], ["a", "b"])
        turned = merging_changes(method, kind, ["a", "b"], ["b", "a"])
        print(f"{method}, {kind}: one adapter {one:.2f}, two {two:.2f}, two merged in reverse {turned:.2f}")
        assert one < 1e-5, "the behaviour has changed"
        assert (two > 0.05) == (method in ("OFT", "C3A")), "the behaviour has changed"
        assert (turned < 1e-5) == (method in ("OFT", "LoRA")), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
