#!/usr/bin/env bash
# basic-pitch 0.4.0 (notes from audio): nine tenths of its convolution weights were never learned, and most kernels repeat.
#
# Behaviour: of the 32 convolutions of `nmp.onnx`, 26 are the octaves of a constant-Q transform: two kernels of
# 36 x 1 x 1 x 256 (cosine and sine) nine times each and one low-pass filter of 1 x 1 x 1 x 256 eight times, every copy an
# input of a convolution of its own. Six kernels are learned. Counts of parameters, errors over all kernels and means over
# layers are those of the transform.
# Guess before: 32 different kernels, all learned.
# Seen (basic-pitch 0.4.0, onnx 1.23.2, Python 3.11):
#   32 convolutions, 9 different kernels; used more than once: [((1, 1, 1, 256), 8), ((36, 1, 1, 256), 9), ((36, 1, 1, 256), 9)]
#   weights counted by convolution: 184,561, of them in repeated kernels: 167,936 (91.0 %)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip install --quiet --disable-pip-version-check"
$pip onnx==1.23.2 numpy==2.2.6
$pip --no-deps basic-pitch==0.4.0
cat > "$folder/look.py" <<'PY'
import collections
import pathlib
import sysconfig

import onnx
from onnx import numpy_helper

package = pathlib.Path(sysconfig.get_paths()["purelib"]) / "basic_pitch"
graph = onnx.load(package / "saved_models" / "icassp_2022" / "nmp.onnx").graph
held = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
kernels = [held[node.input[1]] for node in graph.node if node.op_type == "Conv"]
times = collections.Counter((kernel.shape, kernel.tobytes()) for kernel in kernels)
repeated = sorted((shape, count) for (shape, _), count in times.items() if count > 1)
print(f"{len(kernels)} convolutions, {len(times)} different kernels; used more than once: {repeated}")
weights = sum(kernel.size for kernel in kernels)
fixed = sum(kernel.size for kernel in kernels if times[kernel.shape, kernel.tobytes()] > 1)
print(f"weights counted by convolution: {weights:,}, of them in repeated kernels: {fixed:,} ({100 * fixed / weights:.1f} %)")
assert (len(kernels), len(times), weights, fixed) == (32, 9, 184561, 167936), "the file has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
