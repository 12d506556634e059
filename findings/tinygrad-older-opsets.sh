#!/usr/bin/env bash
# tinygrad 0.14.0: softmax and linear upsampling of older ONNX files are those of newer ones; log-sum-exp of 100 is infinite.
#
# Behaviour: until opset 12 `Softmax`, `LogSoftmax` and `Hardmax` take all axes from `axis` on together; tinygrad's ONNX runner takes that
# one axis alone, and for `LogSoftmax` and `Hardmax` without an axis the last one, not axis 1: probabilities of an image sum to the
# number of its pixels. `Upsample` in mode "linear" (opset 7 to 9) samples as today's `Resize` does by default, a part of a pixel off.
# `ReduceLogSumExp` subtracts no maximum before its exponential, and `ArgMin` of unsigned integers negates them, where 0 stays the least.
# Indices of `MaxPool` count within one channel, those of ONNX over the whole tensor. Nothing is said.
# Guess before: each layer computes what onnxruntime does to 1e-3, or raises.
# Seen (tinygrad 0.14.0 on its Python device, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, Linux x86-64), largest difference:
#   Softmax, opset 13, axis 1: 0.00
#   Softmax, opset 11, axis -1: 0.00
#   Softmax, opset 11, axis 1: 0.46, sums to 4.00 (onnxruntime 1.00)
#   LogSoftmax, opset 11: 3.00
#   Hardmax, opset 11: 1.00
#   Resize by 2, linear: 0.00
#   Upsample by 2, nearest: 0.00
#   Upsample by 2, linear: 0.57
#   ReduceLogSumExp of 1 to 3: 0.00
#   ReduceLogSumExp of 101 to 103: inf
#   ArgMin of 0, 5, 3 as int32: 0 (onnxruntime 0)
#   ArgMin of 0, 5, 3 as uint8: 2 (onnxruntime 0)
#   MaxPool, indices of the first channel: 0.00
#   MaxPool, indices of the second channel: 16.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tinygrad==0.14.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner

rng = np.random.default_rng(0)


def outputs(operator, given, opset=13, named=("x",), weights=None, result="y", **settings):
    """What onnxruntime and tinygrad make of a network of one layer."""
    kind = TensorProto.INT64 if operator == "ArgMin" or result == "indices" else TensorProto.FLOAT
    node = helper.make_node(operator, named, ["y"] if result == "y" else ["y", result], **settings)
    taken = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(given.dtype), given.shape)
    put_out = helper.make_tensor_value_info(result, kind, [None] * given.ndim)
    initialisers = [numpy_helper.from_array(weight, name) for name, weight in (weights or {}).items()]
    graph = helper.make_graph([node], "look", [taken], [put_out], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    return session.run(None, {"x": given})[0], OnnxRunner(sys.argv[1])({"x": Tensor(given)})[result].numpy()


def compare(words, right, wanted, found, more=""):
    assert wanted.shape == found.shape, "the behaviour has changed"
    apart = float(abs(wanted.astype(float) - found).max())
    print(f"{words}: {apart:.2f}{more}")
    assert apart < 1e-5 if right else apart > 0.1, "the behaviour has changed"


image = rng.normal(size=(1, 3, 2, 2)).astype(np.float32)
compare("Softmax, opset 13, axis 1", True, *outputs("Softmax", image, axis=1))
compare("Softmax, opset 11, axis -1", True, *outputs("Softmax", image, 11, axis=-1))
wanted, found = outputs("Softmax", image, 11, axis=1)
compare("Softmax, opset 11, axis 1", False, wanted, found, f", sums to {found.sum():.2f} (onnxruntime {wanted.sum():.2f})")
assert abs(found.sum() - 4) < 1e-5, "the behaviour has changed"
compare("LogSoftmax, opset 11", False, *outputs("LogSoftmax", image, 11))
compare("Hardmax, opset 11", False, *outputs("Hardmax", image, 11))

image, scales = rng.normal(size=(1, 1, 3, 3)).astype(np.float32), {"s": np.array([1, 1, 2, 2], np.float32)}
compare("Resize by 2, linear", True, *outputs("Resize", image, 13, ("x", "", "s"), scales, mode="linear"))
compare("Upsample by 2, nearest", True, *outputs("Upsample", image, 9, ("x", "s"), scales, mode="nearest"))
compare("Upsample by 2, linear", False, *outputs("Upsample", image, 9, ("x", "s"), scales, mode="linear"))
for start in (0, 100):
    numbers = np.arange(start + 1, start + 4, dtype=np.float32)[None]
    words = f"ReduceLogSumExp of {start + 1} to {start + 3}"
    compare(words, start == 0, *outputs("ReduceLogSumExp", numbers, axes=[1]))
for kind in (np.int32, np.uint8):
    wanted, found = outputs("ArgMin", np.array([[0, 5, 3]], kind), axis=1)
    print(f"ArgMin of 0, 5, 3 as {kind.__name__}: {found.item()} (onnxruntime {wanted.item()})")
    assert (wanted.item(), found.item()) == (0, 0 if kind is np.int32 else 2), "the behaviour has changed"
image = rng.normal(size=(1, 2, 4, 4)).astype(np.float32)
wanted, found = outputs("MaxPool", image, result="indices", kernel_shape=[2, 2], strides=[2, 2])
for channel, words in enumerate(("first", "second")):
    compare(f"MaxPool, indices of the {words} channel", channel == 0, wanted[:, channel], found[:, channel])
PY
DEV=PYTHON OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" "$folder/layer.onnx"
