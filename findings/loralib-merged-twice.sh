#!/usr/bin/env bash
# loralib 0.1.2: a checkpoint of a network in evaluation mode is loaded as another network, with its update merged twice.
#
# Behaviour: `eval()` adds the update to the weight, `train()` takes it off again. `state_dict()` holds the weight as it is just then
# and the two factors, but not whether they are merged. A checkpoint that was saved after an evaluation and is loaded into a new network,
# which stands in training mode, gets the update a second time as soon as it evaluates (and trains from the merged weight before); one
# saved in training mode and loaded into a network in evaluation mode lacks the update. Nothing is said; all keys match.
# With merge_weights=False, or where both networks are in the same mode, all is right.
# Guess before: save, load, evaluate: the same outputs, in whatever mode it was saved.
# Seen (loralib 0.1.2, torch 2.13.0, Python 3.11, Linux x86-64), mode saved > mode loaded into, largest change of the outputs in
# evaluation mode over the largest change that the update makes:
#   Linear: eval > train 1.00, train > eval 1.00, eval > eval 0.00, train > train 0.00
#   MergedLinear: eval > train 1.00, train > eval 1.00, eval > eval 0.00, train > train 0.00
#   Conv2d: eval > train 1.00, train > eval 1.00, eval > eval 0.00, train > train 0.00
#   Conv2d, merge_weights=False: eval > train 0.00, train > eval 0.00, eval > eval 0.00, train > train 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 loralib==0.1.2
cat > "$folder/look.py" <<'PY'
import copy

import loralib
import torch
from torch import nn

LAYERS = {
    "Linear": (lambda: loralib.Linear(8, 6, r=2), (3, 8)),
    "MergedLinear": (lambda: loralib.MergedLinear(8, 6, r=2, enable_lora=[True, False, True]), (3, 8)),
    "Conv2d": (lambda: loralib.Conv2d(4, 6, 3, r=2), (2, 4, 8, 8)),
    "Conv2d, merge_weights=False": (lambda: loralib.Conv2d(4, 6, 3, r=2, merge_weights=False), (2, 4, 8, 8)),
}


def copied(layer, mode):
    """A copy in this mode; loralib's own train() and eval() return nothing."""
    layer = copy.deepcopy(layer)
    layer.train(mode == "train")
    return layer


torch.manual_seed(0)
for name, (make, shape) in LAYERS.items():
    layer, inputs = make(), torch.randn(shape)
    with torch.no_grad():
        without = copied(layer, "eval")(inputs)
        for factor in (layer.lora_A, layer.lora_B):
            nn.init.normal_(factor)
        tuned = copied(layer, "eval")(inputs)
        gaps = {}
        for saved, into in (("eval", "train"), ("train", "eval"), ("eval", "eval"), ("train", "train")):
            fresh = copied(make(), into)
            fresh.load_state_dict(copied(layer, saved).state_dict(), strict=True)
            gap = (copied(fresh, "eval")(inputs) - tuned).abs().max() / (tuned - without).abs().max()
            gaps[f"{saved} > {into}"] = float(gap)
    print(f"{name}: {', '.join(f'{modes} {gap:.2f}' for modes, gap in gaps.items())}")
    wrong = [modes for modes, gap in gaps.items() if gap > 1e-4]
    expected = [] if "False" in name else ["eval > train", "train > eval"]
    assert wrong == expected, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
