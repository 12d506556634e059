#!/usr/bin/env bash
# lycoris-lora 4.1.3, `lycoris.functional.lokr.diff_weight` with a Tucker core: the scale goes by the width of the layer.
#
# Behaviour: the update of LoKr is gamma / rank times the Kronecker product. With a Tucker core (`t` given) the rank is read
# off the wrong axis of the second factor, so that gamma / out_2 is taken instead: the same setting trains a differently
# scaled update on layers of another width. Without the core the scale is gamma / rank.
# Guess before: gamma / rank in both forms.
# Seen (lycoris-lora 4.1.3, torch 2.13.0, Python 3.11, Linux x86-64; rank 2, out_2 = 8, gamma 1):
#   without core: update over unscaled product 0.500
#   with core: update over unscaled product 0.125
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 lycoris-lora==4.1.3
cat > "$folder/look.py" <<'PY'
import torch
from lycoris.functional import lokr

torch.manual_seed(0)
for core in (False, True):
    first, _, _, _, left, right, middle = lokr.weight_gen(torch.empty(32, 32, 3, 3), 2, tucker=core, factor=4)
    left, right = torch.randn_like(left), torch.randn_like(right)
    if core:  # (rank, out_2), (rank, in_2), (rank, rank, 3, 3)
        second = torch.einsum("ijhw,io,jc->ochw", middle, left, right)
    else:  # (out_2, rank), (rank, in_2, 3, 3)
        second = torch.einsum("or,rchw->ochw", left, right)
    wanted = torch.einsum("ab,ochw->aobchw", first, second).reshape(32, 32, 3, 3)
    update = lokr.diff_weight(first, None, None, None, left, right, middle, gamma=torch.tensor(1.0))
    scale = (update.flatten() @ wanted.flatten() / wanted.flatten().square().sum()).item()
    assert torch.allclose(update, scale * wanted, atol=1e-5), "the update is a multiple of the product"
    print(f"{'with' if core else 'without'} core: update over unscaled product {scale:.3f}")
    assert abs(scale - (1 / 8 if core else 1 / 2)) < 1e-4, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
