#!/usr/bin/env bash
# peft 0.21.2: OFT on a convolution of more than one pixel gives another network before anything is trained.
#
# Behaviour: OFT rotates the inputs of a layer, and starts at the identity. For `Conv2d` it cuts the image into patches
# of the kernel's size, rotates them, and adds the patches up to an image again, where they overlap more than once,
# and with rows and channels of patches taken for each other. So with every kernel larger than 1 x 1 a fresh adapter changes the
# output, the rim most; merging writes a rotation of the kernel, which is right, so that the merged network is another
# than the one that was trained. No error and no warning. Kernels of 1 x 1, and patches that do not overlap because the
# image is as small as the kernel, are right.
# Guess before: a rotation by nothing changes nothing, and merging changes nothing either.
# Seen (peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64), share of the output that has changed:
#   1 x 1: fresh 0.00, merged after a change of the adapter 0.00
#   3 x 3: fresh 2.91, merged after a change of the adapter 1.04
#   3 x 3 on an image of 3 x 3: fresh 0.00, merged after a change of the adapter 0.00
#   5 x 5, stride 2: fresh 4.98, merged after a change of the adapter 0.98
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
from peft import OFTConfig, get_peft_model  # noqa: E402

LAYERS = {
    "1 x 1": ({"kernel_size": 1}, 12),
    "3 x 3": ({"kernel_size": 3}, 12),
    "3 x 3 on an image of 3 x 3": ({"kernel_size": 3}, 3),
    "5 x 5, stride 2": ({"kernel_size": 5, "stride": 2}, 12),
}


def changed(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


seen = {}
for title, (form, side) in LAYERS.items():
    torch.manual_seed(0)
    base, image = nn.Sequential(nn.Conv2d(8, 8, **form)).eval(), torch.randn(2, 8, side, side)
    with torch.no_grad():
        plain = base(image)
        model = get_peft_model(base, OFTConfig(target_modules=["0"], oft_block_size=4)).eval()
        fresh = changed(model(image), plain)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn_like(parameter)
        trained = model(image)
        merged = changed(model.merge_and_unload()(image), trained)
    seen[title] = fresh, merged
    print(f"{title}: fresh {fresh:.2f}, merged after a change of the adapter {merged:.2f}")
assert all(share < 0.01 for title in ("1 x 1", "3 x 3 on an image of 3 x 3") for share in seen[title]), "has changed"
assert all(share > 0.1 for title in ("3 x 3", "5 x 5, stride 2") for share in seen[title]), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
