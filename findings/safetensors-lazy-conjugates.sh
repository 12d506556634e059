#!/usr/bin/env bash
# safetensors 0.8.0, `safetensors.torch.save` and `save_file`: a conjugate that torch has not computed yet is saved as the number itself.
#
# Behaviour: `conj()` sets a mark on a view of the same memory. The view counts as contiguous, so it is not refused, and the memory is
# written as it lies: the imaginary parts come back with the other sign. `.contiguous()`, `.detach()`, `.cpu()` and a `Parameter` keep the
# mark, `.clone()` and `deepcopy` do not, so a copy of the same state is saved right. Whoever writes no `conj()` meets it too:
# `torch.fft.ihfft` of real numbers returns a marked tensor, and a row of the conjugate transpose is one. `torch.save` is right; NumPy
# refuses such a tensor. Cure: `resolve_conj()`. (Issue 831 of safetensors/safetensors, open.)
# Guess before: these tensors are saved right, or refused as other views are.
# Seen (safetensors 0.8.0, torch 2.13.0, Python 3.11, Linux x86-64):
#   kernels                        same
#   kernels.conj()                 other
#   kernels.conj().contiguous()    other
#   Parameter(kernels.conj())      other
#   ihfft of 8 real numbers        other
#   kernels[:, :1].mH              other
#   kernels.conj().clone()         same
#   deepcopy of kernels.conj()     same
#   kernels.conj().resolve_conj()  same
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 torch==2.13.0 numpy==2.4.6 packaging==26.2
cat > "$folder/look.py" <<'PY'
import copy
import io

import torch
from safetensors.torch import load, save

torch.manual_seed(0)
kernels = torch.randn(4, 3, dtype=torch.complex64)
CASES = {
    "kernels": (kernels, True),
    "kernels.conj()": (kernels.conj(), False),
    "kernels.conj().contiguous()": (kernels.conj().contiguous(), False),
    "Parameter(kernels.conj())": (torch.nn.Parameter(kernels.conj()), False),
    "ihfft of 8 real numbers": (torch.fft.ihfft(torch.randn(8)), False),
    "kernels[:, :1].mH": (kernels[:, :1].contiguous().mH, False),
    "kernels.conj().clone()": (kernels.conj().clone(), True),
    "deepcopy of kernels.conj()": (copy.deepcopy(kernels.conj()), True),
    "kernels.conj().resolve_conj()": (kernels.conj().resolve_conj(), True),
}
for name, (tensor, right) in CASES.items():
    stream = io.BytesIO()
    torch.save({"a": tensor}, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream)["a"], tensor)
    same = torch.equal(load(save({"a": tensor}))["a"], tensor)
    print(f"{name:30} {'same' if same else 'other'}")
    assert same == right, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py" 2> "$folder/warnings" || { cat "$folder/warnings"; exit 1; }
