#!/usr/bin/env bash
# lycoris-lora 4.1.3: merging forgets the scalar of LoHa and LoKr, and turns the bias of OFT, BOFT and IA3 in bypass mode.
#
# Behaviour: with `use_scalar=True` the update is multiplied by a trained number that starts at 0. `merge_to` adds the update
# without it for LoHa and LoKr: the merged network is another one than was trained. LoRA, GLoRA and full apply it.
# With `bypass_mode=True` OFT, BOFT and IA3 turn or scale the output of the layer, its bias included, while merging turns or scales the
# weight alone; DyLoRA differs without a bias too. LoRA, LoHa and LoKr agree. Nothing is said.
# Guess before: a merged network computes what the adapted one did, for every algorithm and option.
# Seen (lycoris-lora 4.1.3, torch 2.14.1, Python 3.11, Linux x86-64; other: the output differs by more than 1 %, by norm):
#   use_scalar, 3 x 3 convolution: lora same, loha other, lokr other, glora same, full same
#   bypass_mode, 3 x 3 convolution: lora same, loha same, lokr same, diag-oft other, boft other, ia3 other, dylora other
#   use_scalar, linear: lora same, loha other, lokr other, glora same, full same
#   bypass_mode, linear: lora same, loha same, lokr same, diag-oft other, boft other, ia3 other, dylora other
#   bypass_mode, 3 x 3 convolution without bias: lora same, loha same, lokr same, diag-oft same, boft same, ia3 same, dylora other
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 lycoris-lora==4.1.3
cat > "$folder/look.py" <<'PY'
import logging

import torch
from lycoris import LycorisNetwork, create_lycoris
from torch import nn

logging.disable(logging.CRITICAL)
LycorisNetwork.apply_preset({"target_module": ["Sequential"]})
torch.manual_seed(0)
images, vectors = torch.randn(2, 8, 10, 10), torch.randn(2, 8)


def same(algo, layer, inputs, option):
    """Does the merged layer compute what the adapted one did?"""
    torch.manual_seed(0)
    network = nn.Sequential(layer)
    adapter = create_lycoris(network, 1.0, linear_dim=4, linear_alpha=4, algo=algo, **{option: True})
    adapter.apply_to()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        adapted = network.eval()(inputs)
        adapter.restore()
        adapter.merge_to(1.0)
        return bool((network(inputs) - adapted).norm() < 0.01 * adapted.norm())


def seen(option, kind, build, inputs, algos):
    result = {algo: "same" if same(algo, build(), inputs, option) else "other" for algo in algos}
    print(f"{option}, {kind}: " + ", ".join(f"{algo} {word}" for algo, word in result.items()))
    return {algo for algo, word in result.items() if word == "other"}


BYPASS = ("lora", "loha", "lokr", "diag-oft", "boft", "ia3", "dylora")
for kind, build, inputs in (
    ("3 x 3 convolution", lambda: nn.Conv2d(8, 16, 3, padding=1), images),
    ("linear", lambda: nn.Linear(8, 16), vectors),
):
    other = seen("use_scalar", kind, build, inputs, ("lora", "loha", "lokr", "glora", "full"))
    assert other == {"loha", "lokr"}, "the behaviour has changed"
    other = seen("bypass_mode", kind, build, inputs, BYPASS)
    assert other == {"diag-oft", "boft", "ia3", "dylora"}, "the behaviour has changed"
other = seen("bypass_mode", "3 x 3 convolution without bias", lambda: nn.Conv2d(8, 16, 3, bias=False), images, BYPASS)
assert other == {"dylora"}, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
