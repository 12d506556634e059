#!/usr/bin/env bash
# torch 2.13.0, `torch.nn.utils.fusion.fuse_conv_bn_eval(..., transpose=True)`: grouped transposed convolutions do not fuse.
#
# Behaviour: the scale of the batch norm, one entry an output channel, is laid along the second side of the kernel. With
# groups that side has out / groups entries. Mostly the shapes do not fit and an error names sizes that nobody passed in;
# for one output channel a group they fit by broadcasting, and the fused layer comes back without an error, with a kernel of
# a wrong shape that fails only when it is run.
# Guess before: every transposed convolution fuses, to rounding, as grouped ordinary ones do.
# Seen (torch 2.13.0, Python 3.11, Linux x86-64):
#   groups 1: equal to rounding
#   groups 2: fails when fusing
#   groups 4: fails when fusing
#   groups 8: fuses; kernel (8, 1, 3, 3) became (8, 8, 3, 3); fails when run
#   ordinary convolution, groups 8: equal to rounding
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6
cat > "$folder/look.py" <<'PY'
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def outcome(kind, groups):
    torch.manual_seed(0)
    layer, norm = kind(8, 8, 3, groups=groups).eval(), nn.BatchNorm2d(8).eval()
    with torch.no_grad():
        for value in (norm.running_mean, norm.weight, norm.bias):
            value.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    image = torch.randn(1, 8, 5, 5)
    try:
        fused = fuse_conv_bn_eval(layer, norm, transpose=kind is nn.ConvTranspose2d)
    except RuntimeError:
        return "fails when fusing"
    change = ""
    if fused.weight.shape != layer.weight.shape:
        change = f"fuses; kernel {tuple(layer.weight.shape)} became {tuple(fused.weight.shape)}; "
    try:
        found = fused(image)
    except RuntimeError:
        return f"{change}fails when run"
    assert torch.allclose(found, norm(layer(image)), atol=1e-5)
    return "equal to rounding"


seen = [f"groups {groups}: {outcome(nn.ConvTranspose2d, groups)}" for groups in (1, 2, 4, 8)]
seen.append(f"ordinary convolution, groups 8: {outcome(nn.Conv2d, 8)}")
print("\n".join(seen))
assert seen == [
    "groups 1: equal to rounding",
    "groups 2: fails when fusing",
    "groups 4: fails when fusing",
    "groups 8: fuses; kernel (8, 1, 3, 3) became (8, 8, 3, 3); fails when run",
    "ordinary convolution, groups 8: equal to rounding",
], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
