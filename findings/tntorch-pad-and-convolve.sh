#!/usr/bin/env bash
# tntorch 1.1.2: padding with a constant fills in other numbers; convolution "same" with an even kernel is shifted, "valid" can be empty.
#
# Behaviour: `tn.pad(t, shape, fill_value=2)` appends 2 to a core of the first padded axis, not to the tensor. The new entries there
# are 2 times a sum of products of the other cores, and along all other axes they are 0. Zeros, the default, are right.
# `tn.convolve(..., mode="same")` refers to `np.convolve`, and starts one entry later where the kernel's side is even.
# "valid" cuts k - 1 entries off the end as `[:-(k - 1)]`, which leaves nothing where the kernel's side is 1.
# "full" is right. Nothing is said.
# Guess before: the tensor in full has the constant in each new entry, and the three modes are those of NumPy and SciPy.
# Seen (tntorch 1.1.2, torch 2.14.1, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   padded with 2: 1.34 to 3.62 in new rows, 0.00 to 0.00 in new columns
#   padded with 0: 0.00 to 0.00 in new rows, 0.00 to 0.00 in new columns
#   kernel (3, 3): full, same and valid as SciPy's, to 1e-14
#   kernel (4, 4), full: largest difference from SciPy 8.9e-15
#   kernel (4, 4), same: largest difference from SciPy 2.4e+00, 5.3e-15 where SciPy's is moved by an entry
#   kernel (4, 4), valid: largest difference from SciPy 4.0e-15
#   kernel (1, 3), full: largest difference from SciPy 1.1e-15
#   kernel (1, 3), same: largest difference from SciPy 1.3e-15
#   kernel (1, 3), valid: shape (0, 7), SciPy's (9, 7)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scipy==1.17.1 tntorch==1.1.2
cat > "$folder/look.py" <<'PY'
import numpy as np
import scipy.signal
import tntorch as tn
import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
image = tn.rand((4, 5), ranks_tt=3)

for title, options in {"2": {"fill_value": 2.0}, "0": {}}.items():
    padded = tn.pad(image, (6, 8), **options).torch()
    below, beside = padded[4:, :5], padded[:4, 5:]
    told = [f"{float(part.min()):.2f} to {float(part.max()):.2f}" for part in (below, beside)]
    print(f"padded with {title}: {told[0]} in new rows, {told[1]} in new columns")
    if options:
        assert float((below - 2).abs().min()) > 0.05 and not beside.any(), "the behaviour has changed"
    else:
        assert not below.any() and not beside.any(), "the behaviour has changed"

signal = tn.rand((9, 9), ranks_tt=3)
for shape in ((3, 3), (4, 4), (1, 3)):
    kernel = tn.rand(shape, ranks_tt=2)
    for mode in ("full", "same", "valid"):
        found = tn.convolve(signal, kernel, mode=mode, verbose=False).torch().numpy()
        wanted = scipy.signal.convolve(signal.numpy(), kernel.numpy(), mode=mode)
        if found.shape != wanted.shape:
            print(f"kernel {shape}, {mode}: shape {found.shape}, SciPy's {wanted.shape}")
            assert (shape, mode, found.size) == ((1, 3), "valid", 0), "the behaviour has changed"
            continue
        error, tail = float(np.abs(found - wanted).max()), ""
        if error > 1e-6:
            moved = float(np.abs(found[:-1, :-1] - wanted[1:, 1:]).max())
            tail = f", {moved:.1e} where SciPy's is moved by an entry"
            assert moved < 1e-6, "the behaviour has changed"
        print(f"kernel {shape}, {mode}: largest difference from SciPy {error:.1e}{tail}")
        assert (error > 0.1) == (shape == (4, 4) and mode == "same"), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" | grep -v maxvolpy
