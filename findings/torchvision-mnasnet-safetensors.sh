#!/usr/bin/env bash
# torchvision 0.29.1: MNASNet takes no state dict that was read from a safetensors file, not even its own.
#
# Behaviour: MNASNet keeps the version of its layout beside the tensors, in the `_metadata` that torch.save pickles along, and raises
# ValueError where there is none. A plain dict of its own state, or what safetensors wrote and read, ends so; every tool that loads such
# a dict into it does as well (peft's adapters, of any method). The message names no file and no way out. With the `_metadata` of a new
# network put on the dict it loads, and gives the same outputs; the other networks here, which hold no version, load it as it is.
# Guess before: a network loads the state dict that it was saved as, whichever format held the tensors.
# Seen (torchvision 0.29.1, torch 2.14.1, safetensors 0.8.0, Python 3.11):
#   resnet18: loaded, the same outputs
#   mobilenet_v2: loaded, the same outputs
#   mnasnet0_5: ValueError: version should be set to 1 or 2 instead of None
#   mnasnet0_5, with _metadata: loaded, the same outputs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchvision==0.29.1 torch==2.14.1 safetensors==0.8.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

path = Path(sys.argv[1]) / "network.safetensors"
images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
found = {}
for name, versioned in (("resnet18", False), ("mobilenet_v2", False), ("mnasnet0_5", False), ("mnasnet0_5", True)):
    torch.manual_seed(1)
    saved, new = get_model(name).eval(), get_model(name).eval()
    save_file(saved.state_dict(), path)
    state = OrderedDict(load_file(path))
    if versioned:
        state._metadata = new.state_dict()._metadata
    try:
        new.load_state_dict(state)
        same = torch.equal(saved(images), new(images))
        what = f"loaded, {'the same' if same else 'other'} outputs"
    except ValueError as error:
        what = f"ValueError: {error}"
    label = name + ", with _metadata" * versioned
    print(f"{label}: {what}")
    found[label] = what
right = "loaded, the same outputs"
assert found.pop("mnasnet0_5") == "ValueError: version should be set to 1 or 2 instead of None", "the behaviour has changed"
assert set(found.values()) == {right}, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py" "$folder"
