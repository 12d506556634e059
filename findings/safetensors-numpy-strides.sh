#!/usr/bin/env bash
# safetensors 0.8.0, `safetensors.numpy.save_file` and `save`: the strides of a NumPy array are ignored.
#
# Behaviour: a transposed, Fortran-ordered, sliced or reversed array is written as the bytes that lie in its memory,
# under the shape of the view. The file is valid, loads without a word, and holds other numbers. 0.7.0 is right.
# Who meets it: kernels converted between layouts (height, width, in, out) -> (out, in, height, width), and atoms in
# the Fortran order that spams asks for. Cure: `numpy.ascontiguousarray` before saving.
# Guess before: every one of these arrays is saved right, or refused.
# Seen (safetensors 0.8.0, NumPy 2.2.6, Python 3.11, Linux x86-64):
#   0.7.0 permuted kernel: same True
#   0.8.0 C order: same True
#   0.8.0 Fortran order: same False
#   0.8.0 permuted kernel: same False
#   0.8.0 every second column: same False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 safetensors==0.8.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/before" safetensors==0.7.0
cat > "$folder/look.py" <<'PY'
import numpy
import safetensors
from safetensors.numpy import load, load_file, save, save_file

kernels = numpy.arange(3 * 3 * 2 * 4, dtype=numpy.float32).reshape(3, 3, 2, 4)
cases = {
    "C order": (kernels, True),
    "Fortran order": (numpy.asfortranarray(kernels), False),
    "permuted kernel": (kernels.transpose(3, 2, 0, 1), False),
    "every second column": (kernels[..., ::2], False),
}
new = safetensors.__version__ == "0.8.0"
for name, (array, right) in cases.items():
    save_file({"a": array}, "saved.safetensors")
    same = numpy.array_equal(load_file("saved.safetensors")["a"], array)
    assert same == numpy.array_equal(load(save({"a": array}))["a"], array)
    print(f"{safetensors.__version__} {name}: same {same}")
    assert same == (right or not new), "the behaviour has changed"
PY
cd "$folder"
PYTHONPATH="$folder/before" venv/bin/python look.py
venv/bin/python look.py
