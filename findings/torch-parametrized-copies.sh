#!/usr/bin/env bash
# torch 2.13.0, `copy.deepcopy` of a parametrised layer: taking the parametrisation off one copy breaks the other.
#
# Behaviour: torch gives a parametrised layer a class of its own, with a property that computes the weight. A deep copy
# shares that class. `remove_parametrizations` on the copy deletes the property from the class, so the original, which
# nobody touched, raises AttributeError in its next forward pass. Who merges weight norm or an update into a copy, to
# keep the original for comparison, meets it.
# Guess before: the two copies are independent, as they are for every other module.
# Seen (torch 2.13.0, Python 3.11, Linux x86-64):
#   before: the copy computes the same: True
#   after taking it off the copy: the copy computes the same: True
#   the original: AttributeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6
cat > "$folder/look.py" <<'PY'
import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

torch.manual_seed(0)
images = torch.randn(1, 3, 8, 8)
layer = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
twin = copy.deepcopy(layer)
wanted = layer(images)
print("before: the copy computes the same:", torch.equal(twin(images), wanted))
parametrize.remove_parametrizations(twin, "weight")
print("after taking it off the copy: the copy computes the same:", torch.allclose(twin(images), wanted))
try:
    layer(images)
    found = "works"
except AttributeError:
    found = "AttributeError"
print("the original:", found)
assert found == "AttributeError", "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
