#!/usr/bin/env bash
# onnxconverter-common 1.16.0: the optimiser turns reflected, repeated and constant borders in front of a convolution into zeros.
#
# Behaviour: `optimize_onnx_model` (and `optimize_onnx`, which converters call last) moves a `Pad` into the convolution that follows, and
# reads neither the mode nor the value of the `Pad`: reflection, repetition and a border of 2 become a border of 0. It looks for "SAME" in
# an attribute `mode` that a convolution has not, so a convolution that pads by itself loses that padding, and its output another size.
# The same through the pair of `Transpose` that TensorFlow's layout leaves around a `Pad`. Pools are left alone. Nothing is said.
# Guess before: simplified graphs compute the same.
# Seen (onnxconverter-common 1.16.0, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, Linux x86-64), sizes before and after of
# an image of 9 x 9, and the largest difference by the largest value:
#   zeros: 9 x 9, 9 x 9, 0.00
#   reflected: 9 x 9, 9 x 9, 0.62
#   repeated: 9 x 9, 9 x 9, 0.65
#   a border of 2: 9 x 9, 9 x 9, 1.02
#   zeros, channels last: 9 x 9, 9 x 9, 0.00
#   reflected, channels last: 9 x 9, 9 x 9, 0.62
#   zeros before a convolution with SAME_UPPER: 11 x 11, 9 x 9
#   reflected, before a pool: 9 x 9, 9 x 9, 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.optimizer import optimize_onnx_model

rng = np.random.default_rng(0)
image = rng.normal(size=(2, 4, 9, 9)).astype(np.float32)
KERNEL = numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(np.float32), "kernel")
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def network(mode, value=0.0, channels_last=False, pool=False, **convolution):
    """ReLU, a border of one pixel, and a convolution (or pool) of 3 x 3."""
    border = [0, 1, 1, 0] * 2 if channels_last else [0, 0, 1, 1] * 2
    weights = [KERNEL, numpy_helper.from_array(np.array(border), "border"), numpy_helper.from_array(np.float32(value), "value")]
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="relu"), helper.make_node("Pad", ["b", "border", "value"], ["c"], name="pad", mode=mode)]
    if channels_last:
        nodes.insert(1, helper.make_node("Transpose", ["a"], ["b"], name="last", perm=LAST))
        nodes.append(helper.make_node("Transpose", ["c"], ["d"], name="first", perm=FIRST))
    else:
        nodes[1].input[0] = "a"
    taken = "d" if channels_last else "c"
    if pool:
        nodes.append(helper.make_node("MaxPool", [taken], ["e"], name="pool", kernel_shape=[3, 3]))
    else:
        nodes.append(helper.make_node("Conv", [taken, "kernel"], ["e"], name="convolution", kernel_shape=[3, 3], **convolution))
    nodes.append(helper.make_node("Neg", ["e"], ["y"], name="negative"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", image.shape), ("y", [None] * 4))]
    graph = helper.make_graph(nodes, "look", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0]


CASES = [
    ("zeros", network("constant"), True),
    ("reflected", network("reflect"), False),
    ("repeated", network("edge"), False),
    ("a border of 2", network("constant", 2.0), False),
    ("zeros, channels last", network("constant", channels_last=True), True),
    ("reflected, channels last", network("reflect", channels_last=True), False),
    ("zeros before a convolution with SAME_UPPER", network("constant", auto_pad="SAME_UPPER"), False),
    ("reflected, before a pool", network("reflect", pool=True), True),
]
for words, model, right in CASES:
    wanted = run(model)
    found = run(optimize_onnx_model(model))
    sizes = ["{} x {}".format(*maps.shape[2:]) for maps in (wanted, found)]
    same = wanted.shape == found.shape
    apart = float(abs(found - wanted).max() / abs(wanted).max()) if same else None
    print(f"{words}: {sizes[0]}, {sizes[1]}" + (f", {apart:.2f}" if same else ""))
    assert (same and apart < 1e-5) == right, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
