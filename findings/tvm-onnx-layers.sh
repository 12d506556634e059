#!/usr/bin/env bash
# Apache TVM 0.27.0: ONNX images are upsampled from the wrong pixels and resized without `antialias`; `output_shape` is dropped.
#
# Behaviour: the ONNX importer of Relax lets `Upsample` in mode "nearest" (exports of opset 7 and 8) round to the nearer pixel where ONNX
# rounds down, so each second pixel comes from its neighbour. It reads neither the `antialias` of `Resize` nor the `output_shape` of a
# transposed convolution. `MaxPool` with "SAME_LOWER" drops the last row and column of odd images, where `AveragePool` keeps them, and
# `LpPool` that rounds up scales partial windows as if they were full. Nothing is said. (That scales of `Resize` are replaced by those of
# the size in whole pixels, so half of 9 pixels is sampled every 9/4, is told in an open issue.)
# Guess before: each layer computes what onnxruntime does to 1e-3, or raises.
# Seen (apache-tvm 0.27.0.post1, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, Linux x86-64), sizes, and the largest
# difference from onnxruntime by its largest value:
#   Resize by 2, linear: 18 x 18, 18 x 18, 0.00
#   Resize by 0.5, 8 x 8 pixels, linear: 4 x 4, 4 x 4, 0.00
#   Resize by 0.5, 9 x 9 pixels, linear: 4 x 4, 4 x 4, 1.39
#   Resize by 1.5, 9 x 9 pixels, linear: 13 x 13, 13 x 13, 0.37
#   Resize by 1.5, 9 x 9 pixels, nearest: 13 x 13, 13 x 13, 1.60
#   Resize to a third: 4 x 4, 4 x 4, 0.00
#   Resize to a third, antialias: 4 x 4, 4 x 4, 3.33
#   ConvTranspose: 15 x 15, 15 x 15, 0.00
#   ConvTranspose, output_shape 16 x 16: 16 x 16, 17 x 17
#   Upsample by 2, nearest: 10 x 10, 10 x 10, 1.63
#   MaxPool, SAME_LOWER, 8 x 8 pixels: 4 x 4, 4 x 4, 0.00
#   MaxPool, SAME_LOWER, 9 x 9 pixels: 5 x 5, 4 x 4
#   LpPool: 3 x 3, 3 x 3, 0.00
#   LpPool, rounded up: 4 x 4, 4 x 4, 0.30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.15.post2 onnx==1.23.2 \
  onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

rng = np.random.default_rng(0)


def image(channels, side):
    return rng.normal(size=(1, channels, side, side)).astype(np.float32)


def compare(words, right, operator, given, named=("x",), opset=18, weights=None, **settings):
    """Prints how far TVM is from onnxruntime in a network of one layer, and returns both outputs."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", given.shape), ("y", [None] * 4))]
    initialisers = [numpy_helper.from_array(weight, name) for name, weight in (weights or {}).items()]
    graph = helper.make_graph([helper.make_node(operator, named, ["y"], **settings)], "look", values[:1], values[1:], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": given})[0]
    machine = relax.VirtualMachine(tvm.compile(from_onnx(model), target="llvm"), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(given)).numpy()
    same = wanted.shape == found.shape
    apart = float(abs(found - wanted).max() / abs(wanted).max()) if same else np.inf
    sides = ["{} x {}".format(*maps.shape[2:]) for maps in (wanted, found)]
    print(f"{words}: {sides[0]}, {sides[1]}" + (f", {apart:.2f}" if same else ""))
    assert apart < 1e-5 if right else apart > 0.1, "the behaviour has changed"
    return wanted, found


def scaled(words, right, side, scale, mode="linear"):
    weights = {"s": np.array([1, 1, scale, scale], np.float32)}
    return compare(words, right, "Resize", image(2, side), ("x", "", "s"), weights=weights, mode=mode)


scaled("Resize by 2, linear", True, 9, 2)
scaled("Resize by 0.5, 8 x 8 pixels, linear", True, 8, 0.5)
scaled("Resize by 0.5, 9 x 9 pixels, linear", False, 9, 0.5)
scaled("Resize by 1.5, 9 x 9 pixels, linear", False, 9, 1.5)
scaled("Resize by 1.5, 9 x 9 pixels, nearest", False, 9, 1.5, "nearest")
given, sizes = image(2, 12), {"z": np.array([1, 2, 4, 4], np.int64)}
arguments = ("Resize", given, ("x", "", "", "z"))
_, plain = compare("Resize to a third", True, *arguments, weights=sizes, mode="linear")
_, found = compare("Resize to a third, antialias", False, *arguments, weights=sizes, mode="linear", antialias=1)
assert np.array_equal(found, plain), "the behaviour has changed"

given, kernel = image(4, 8), {"w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32)}
arguments = ("ConvTranspose", given, ("x", "w"))
compare("ConvTranspose", True, *arguments, weights=kernel, strides=[2, 2], pads=[1] * 4)
compare("ConvTranspose, output_shape 16 x 16", False, *arguments, weights=kernel, strides=[2, 2], output_shape=[16, 16])

given = image(2, 5)
wanted, found = compare("Upsample by 2, nearest", False, "Upsample", given, opset=7, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
assert np.array_equal(wanted, given.repeat(2, 2).repeat(2, 3)), "the behaviour has changed"
for side in (8, 9):
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}
    compare(f"MaxPool, SAME_LOWER, {side} x {side} pixels", side == 8, "MaxPool", image(2, side), **settings)
given, settings = image(2, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "p": 2}
compare("LpPool", True, "LpPool", given, **settings)
wanted, found = compare("LpPool, rounded up", False, "LpPool", given, ceil_mode=1, **settings)
corner = (given[:, :, 6:, 6:] ** 2).sum((2, 3)) ** 0.5
assert np.allclose(wanted[..., -1, -1], corner) and np.allclose(found[..., -1, -1], corner * 1.5), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
