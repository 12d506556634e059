#!/usr/bin/env bash
# timm 1.0.31 with peft 0.21.2: `reparameterize_model` of a network with an unmerged adapter is the untuned network, or raises.
#
# Behaviour: FastViT's branches are folded from the base weights (the wrapper of an adapter answers for `weight` with
# that of the layer it wraps), so the network that comes back computes what the one before tuning did, without a word.
# RepVGG and RepViT raise an AttributeError about `kernel_size` or `groups`. Merge the adapter first.
# Guess before: either the adapter is folded in with its layer, or all raise.
# Seen (timm 1.0.31, peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64):
#   fastvit_t8: as tuned: False, as before tuning: True
#   repvgg_a0: AttributeError: 'Conv2d' object has no attribute 'kernel_size'
#   repvit_m0_9: AttributeError: 'Conv2d' object has no attribute 'groups'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 timm==1.0.31 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import timm
import torch
from peft import LoraConfig, get_peft_model
from timm.utils.model import reparameterize_model
from torch import nn

found = {}
for name in ("fastvit_t8", "repvgg_a0", "repvit_m0_9"):
    torch.manual_seed(0)
    images = torch.randn(1, 3, 224, 224)
    network = timm.create_model(name).eval()
    plain = network(images)
    spatial = [
        each
        for each, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size[0] > 1
    ]
    tuned = get_peft_model(network, LoraConfig(r=8, lora_alpha=64, init_lora_weights=False, target_modules=spatial)).eval()
    wanted = tuned(images)
    assert not torch.allclose(wanted, plain, rtol=0.1), "the adapter changes the network"
    try:
        folded = reparameterize_model(tuned)(images)
    except AttributeError as error:
        found[name] = f"AttributeError: {error}"
    else:
        right, untuned = (bool(torch.allclose(folded, each, rtol=1e-3)) for each in (wanted, plain))
        found[name] = f"as tuned: {right}, as before tuning: {untuned}"
    print(f"{name}: {found[name]}")
assert found["fastvit_t8"] == "as tuned: False, as before tuning: True", "the behaviour has changed"
assert found["repvgg_a0"].startswith("AttributeError"), "the behaviour has changed"
assert found["repvit_m0_9"].startswith("AttributeError"), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
