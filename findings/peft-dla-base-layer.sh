#!/usr/bin/env bash
# peft 0.21.2 with timm 1.0.31: a network with an attribute called `base_layer` cannot be merged, whatever the adapter.
#
# Behaviour: `merge_and_unload` takes every module that has an attribute `base_layer` for an adapter. timm's DLA networks
# call their first block so: the whole network is taken for one, and "'DLA' object has no attribute 'merge'" is raised.
# Injecting, training and saving work, so it is seen at the end.
# Guess before: modules are known by their class.
# Seen (peft 0.21.2, timm 1.0.31, torch 2.14.1, Python 3.11, Linux x86-64):
#   resnet18: runs with LoRA; merged
#   dla46_c: runs with LoRA; AttributeError: 'DLA' object has no attribute 'merge'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 timm==1.0.31 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import timm
import torch
from peft import LoraConfig, get_peft_model

found = {}
for name in ("resnet18", "dla46_c"):
    torch.manual_seed(0)
    tuned = get_peft_model(timm.create_model(name), LoraConfig(r=2, target_modules=r".*conv1")).eval()
    tuned(torch.randn(1, 3, 64, 64))
    try:
        tuned.merge_and_unload()
        found[name] = "merged"
    except AttributeError as error:
        found[name] = f"AttributeError: {error}"
    print(f"{name}: runs with LoRA; {found[name]}")
assert found["resnet18"] == "merged", "other networks are merged"
assert found["dla46_c"].startswith("AttributeError"), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
