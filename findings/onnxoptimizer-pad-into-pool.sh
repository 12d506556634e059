#!/usr/bin/env bash
# onnxoptimizer 0.4.2: zeros around an image are folded into a pooling layer that does not pad by zeros.
#
# Behaviour: `fuse_pad_into_pool` turns `Pad` (zeros) before a pooling layer into that layer's own padding. A `MaxPool` pads by minus
# infinity, so where all features under a window's rim are negative the maximum was 0 and becomes a negative number; an
# `AveragePool` with `count_include_pad` 0 leaves its own padding out of the mean, so zeros that counted no longer do. The
# first is every network that pads by hand and pools features that can be negative (TensorFlow's "same" pooling of
# ResNets, stems with SiLU or without activation). The file that comes out is valid and gives other numbers, without a word.
# onnxruntime's own optimiser, onnxsim and onnxslim leave the pair alone.
# Guess before: what it fuses computes the same.
# Seen (onnxoptimizer 0.4.2, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, Linux x86-64):
#   Pad, Conv: right
#   Pad, MaxPool: wrong, 0 becomes negative
#   Pad, AveragePool, own padding counted: right
#   Pad, AveragePool with padding, own padding not counted: wrong
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxoptimizer==0.4.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy
import onnx
import onnxoptimizer
import onnxruntime
from onnx import helper, numpy_helper

rng = numpy.random.default_rng(0)
image = -1 - rng.uniform(size=(1, 4, 8, 8)).astype(numpy.float32)  # negative everywhere
weight = numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(numpy.float32), "weight")
LAYERS = {
    "Pad, Conv": ("Conv", {}),
    "Pad, MaxPool": ("MaxPool", {"kernel_shape": [3, 3]}),
    "Pad, AveragePool, own padding counted": ("AveragePool", {"kernel_shape": [3, 3], "count_include_pad": 1}),
    "Pad, AveragePool with padding, own padding not counted": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 0},
    ),
}


def padded(kind, attributes):
    """Zeros around the image, then a layer."""
    margins = numpy_helper.from_array(numpy.array([0, 0, 1, 1, 0, 0, 1, 1]), "margins")
    taken = ["wide", "weight"] if kind == "Conv" else ["wide"]
    nodes = [helper.make_node("Pad", ["image", "margins"], ["wide"]), helper.make_node(kind, taken, ["out"], **attributes)]
    given = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, image.shape)
    told = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [None] * 4)
    constants = [margins, *([weight] if kind == "Conv" else [])]
    graph = helper.make_graph(nodes, "padded", [given], [told], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def output(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"image": image})[0]


seen = []
for title, (kind, attributes) in LAYERS.items():
    model = padded(kind, attributes)
    before, after = output(model), output(onnxoptimizer.optimize(model, ["fuse_pad_into_conv", "fuse_pad_into_pool"]))
    seen.append("right" if before.shape == after.shape and numpy.abs(before - after).max() < 1e-4 else "wrong")
    more = ", 0 becomes negative" if kind == "MaxPool" and before.max() == 0 and after.max() < 0 else ""
    print(f"{title}: {seen[-1]}{more}")
assert seen == ["right", "wrong", "right", "wrong"], "the behaviour has changed"
assert output(padded(*LAYERS["Pad, MaxPool"])).max() == 0
PY
"$folder/venv/bin/python" "$folder/look.py"
