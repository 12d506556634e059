#!/usr/bin/env bash
# torch 2.14.1: on the CPU the bfloat16 weight gradient of a strided convolution over images one pixel wide holds what lay in memory.
#
# Behaviour: where an image is one pixel wide and the stride along that side is 2, most columns of a padded kernel see padding alone. Their
# gradient is 0, but oneDNN (3.12.0) never writes it in bfloat16: the entries are those of freed memory, often 0, sometimes NaN or 1e31. Nothing
# is said. The other columns, stride 1, images one pixel high, float16, float32 and torch without oneDNN are right. A network that halves 32
# pixels six times trains such layers.
# Guess before: torch's own gradient is the reference that another one is held against, in any precision.
# Seen (torch 2.14.1, Python 3.11, Linux x86-64, AMD EPYC with AVX-512 BF16): largest error of 20 gradients over their largest entry,
# of kernel entries that see pixels and of those that see padding alone (what lies there differs from run to run)
#   7 x 1 pixels, stride 1: float32 2e-07 and 0e+00, bfloat16 3e-03 and 0e+00
#   7 x 1 pixels, stride 2: float32 1e-07 and 0e+00, bfloat16 3e-03 and 2e+31
#   1 x 1 pixels, stride 2: float32 5e-08 and 0e+00, bfloat16 3e-03 and inf
#   1 x 7 pixels, stride 2: float32 1e-07 and 0e+00, bfloat16 3e-03 and 0e+00
#   8 x 8 pixels, stride 2: float32 2e-07 and 0e+00, bfloat16 3e-03 and 0e+00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import torch
from torch.nn.functional import conv2d

STRIDED = {"padding": 1, "stride": 2}


def gradient(x, weight, options):
    weight = weight.detach().requires_grad_()
    return torch.autograd.grad(conv2d(x, weight, **options).sum(), weight)[0]


def largest_errors(dtype, size, options):
    """Over entries of 3 x 3 kernels that see pixels, and over those that see padding alone."""
    sees = gradient(torch.ones(1, 1, *size), torch.ones(1, 1, 3, 3), options)[0, 0] > 0
    most = torch.zeros(3, 3, dtype=torch.float64)
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        x, weight = (torch.randn(*shape, generator=draw).to(dtype) for shape in ((2, 16, *size), (24, 16, 3, 3)))
        freed = [torch.full((2**k,), 1e30) for k in range(6, 18)]  # what memory may hold
        del freed
        exact = gradient(x.double(), weight.double(), options)
        error = (gradient(x, weight, options).double() - exact).abs().amax((0, 1)) / exact.abs().max()
        most = torch.maximum(most, error.nan_to_num(torch.inf))
    return float(most[sees].max()), float(most[~sees].max()) if bool((~sees).any()) else 0.0


by_onednn = torch.ops.mkldnn._is_mkldnn_bf16_supported()
for size, options in (
    ((7, 1), {"padding": 1}),
    ((7, 1), STRIDED),
    ((1, 1), STRIDED),
    ((1, 7), STRIDED),
    ((8, 8), STRIDED),
):
    errors = {name: largest_errors(getattr(torch, name), size, options) for name in ("float32", "bfloat16")}
    words = ", ".join(f"{name} {pixels:.0e} and {padding:.0e}" for name, (pixels, padding) in errors.items())
    print(f"{size[0]} x {size[1]} pixels, stride {options.get('stride', 1)}: {words}")
    assert errors["float32"][0] < 1e-5 and errors["float32"][1] == 0, "the behaviour has changed"
    assert errors["bfloat16"][0] < 0.02, "the behaviour has changed"
    assert (errors["bfloat16"][1] > 1) == (by_onednn and size[1] == 1 and options is STRIDED), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
