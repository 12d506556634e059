#!/usr/bin/env bash
# peft 0.21.2, PiSSA by the fast decomposition ("pissa_niter_16"): the saved adapter is loaded into another network.
#
# Behaviour: PiSSA takes the largest singular directions out of the base weight and starts the adapter from them. The file of an
# adapter holds its own factors alone; loading decomposes the base weight once more to take the directions out again. The fast
# decomposition draws random numbers, so the second one takes out other directions than the first, unless both ran from the same
# state of torch's generator. The loaded network differs from the saved one without a word, before any training. More iterations
# help slowly on weights whose singular values fall slowly, as those of a random start. "pissa" (exact) comes back right.
# Guess before: save and load give the same network.
# Seen (peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64; 512 x 512, rank 16; change of the output, by norm):
#   pissa: 0.00
#   pissa_niter_4: above 0.1: True
#   pissa_niter_16: above 0.1: True; warnings: 0
#   pissa_niter_16, seeds 1 and 2: above 0.1: True; seeds 1 and 1: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import copy
import tempfile
import warnings

import peft
import torch
from torch import nn


def change(start, seed_at_load=None):
    """Of the loaded network to the saved one; neither was trained."""
    torch.manual_seed(0)
    base, inputs = nn.Sequential(), torch.randn(16, 512)
    base.add_module("layer", nn.Linear(512, 512))
    untouched = copy.deepcopy(base)
    config = peft.LoraConfig(r=16, init_lora_weights=start, target_modules=["layer"])
    torch.manual_seed(1)
    saved = peft.get_peft_model(base, config).eval()
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        if seed_at_load is not None:
            torch.manual_seed(seed_at_load)
        loaded = peft.PeftModel.from_pretrained(untouched, folder).eval()
    with torch.no_grad():
        return float((loaded(inputs) - saved(inputs)).norm() / saved(inputs).norm())


exact, four, sixteen = (change(start) for start in ("pissa", "pissa_niter_4", "pissa_niter_16"))
other, same = change("pissa_niter_16", 2), change("pissa_niter_16", 1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    change("pissa_niter_16")
words = [str(warning.message) for warning in caught if "pissa" in str(warning.message).lower()]
print(f"pissa: {exact:.2f}")
print(f"pissa_niter_4: above 0.1: {four > 0.1}")
print(f"pissa_niter_16: above 0.1: {sixteen > 0.1}; warnings: {len(words)}")
print(f"pissa_niter_16, seeds 1 and 2: above 0.1: {other > 0.1}; seeds 1 and 1: {same > 0.1}")
assert exact < 1e-3 and four > 0.1 and sixteen > 0.1 and other > 0.1, "the behaviour has changed"
assert same < 1e-3 and not words, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
