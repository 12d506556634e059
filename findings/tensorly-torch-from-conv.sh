#!/usr/bin/env bash
# tensorly-torch 0.5.0, `FactorizedConv.from_conv(layer, ..., decompose_weights=True)`: not every setting of the layer is taken over.
#
# Behaviour: a Tucker form of full rank is the same layer to rounding for plain, dilated and unevenly padded convolutions. A
# circular or reflected padding becomes zeros: the shape is right, the borders are not, no word is said. Of strides that differ
# by side, (2, 1), the first counts for both, and the output has another shape.
# Guess before: whatever is not supported is refused; what is accepted gives the layer's output at full rank.
# Seen (Python 3.11, torch 2.13.0, Linux x86-64), relative error of the output:
#   plain: equal to rounding
#   dilation (1, 2): equal to rounding
#   padding (1, 0): equal to rounding
#   circular padding: error 0.376
#   reflected padding: error 0.372
#   stride (2, 1): (2, 12, 5, 5) for (2, 12, 5, 9)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 tensorly==0.9.0 tensorly-torch==0.5.0 packaging==25.0
cat > "$folder/look.py" <<'PY'
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
import tltorch


def outcome(**settings):
    torch.manual_seed(0)
    layer, image = nn.Conv2d(8, 12, 3, **settings), torch.randn(2, 8, 9, 9)
    factorised = tltorch.FactorizedConv.from_conv(
        layer, rank=(12, 8, 3, 3), decompose_weights=True, factorization="tucker", implementation="factorized")
    wanted, found = layer(image), factorised(image)
    if wanted.shape != found.shape:
        return f"{tuple(found.shape)} for {tuple(wanted.shape)}"
    error = float((found - wanted).norm() / wanted.norm())
    return "equal to rounding" if error < 1e-5 else f"error {error:.3f}"


CASES = {
    "plain": {"padding": 1},
    "dilation (1, 2)": {"padding": (1, 2), "dilation": (1, 2)},
    "padding (1, 0)": {"padding": (1, 0)},
    "circular padding": {"padding": 1, "padding_mode": "circular"},
    "reflected padding": {"padding": 1, "padding_mode": "reflect"},
    "stride (2, 1)": {"padding": 1, "stride": (2, 1)},
}
seen = {name: outcome(**settings) for name, settings in CASES.items()}
print("\n".join(f"{name}: {words}" for name, words in seen.items()))
assert [seen[name] for name in ("plain", "dilation (1, 2)", "padding (1, 0)")] == ["equal to rounding"] * 3, "changed"
assert all(seen[f"{mode} padding"].startswith("error 0.3") for mode in ("circular", "reflected")), "changed"
assert seen["stride (2, 1)"] == "(2, 12, 5, 5) for (2, 12, 5, 9)", "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
