#!/usr/bin/env bash
# OpenVINO 2026.4.1: `MaxPool` of an ONNX file that rounds its shape up (`ceil_mode`) has a further row or column of -3.4e38.
#
# Behaviour: a window that starts behind the image is left out by the standard (said so from opset 22 on), by torch, whose `ceil_mode` it
# is, and by onnxruntime. OpenVINO keeps it for maxima, also in files of opset 22: the output is a row, a column or both larger than the
# file itself declares, and the maximum of nothing is the smallest float. What follows takes it for a feature: one rectifier makes it 0,
# a mean over the image becomes a huge negative number. `AveragePool` with the same settings has the right shape. (For
# core operators the two roundings exist, CEIL and CEIL_TORCH; issue 18731 of openvinotoolkit/openvino is about the former.)
# Guess before: maxima and means have the same shape, that of onnxruntime.
# Seen (openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, Linux x86-64):
#   MaxPool     (9, 8), kernel [3, 3], strides [4, 4]: declared (3, 2), OpenVINO (3, 3), lowest -3.4e+38
#   AveragePool (9, 8), kernel [3, 3], strides [4, 4]: declared (3, 2), OpenVINO (3, 2), lowest -1.3e+00
#   MaxPool     (9, 9), kernel [2, 2], strides [2, 2], pads [1, 1, 1, 1]: declared (5, 5), OpenVINO (6, 6), lowest -3.4e+38
#   AveragePool (9, 9), kernel [2, 2], strides [2, 2], pads [1, 1, 1, 1]: declared (5, 5), OpenVINO (5, 5), lowest -1.5e+00
#   MaxPool     (8, 8), kernel [3, 3], strides [2, 2]: declared (4, 4), OpenVINO (4, 4), lowest -1.0e-01
#   AveragePool (8, 8), kernel [3, 3], strides [2, 2]: declared (4, 4), OpenVINO (4, 4), lowest -7.1e-01
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy
import onnx
import onnxruntime
import openvino
from onnx import helper, shape_inference

core = openvino.Core()
rng = numpy.random.default_rng(0)


def pooled(kind, opset, side, **attributes):
    """What OpenVINO and onnxruntime give for one pooling layer, and the shape that the file declares."""
    image = rng.normal(size=(1, 2, *side)).astype(numpy.float32)
    given = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, image.shape)
    told = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None)
    node = helper.make_node(kind, ["image"], ["output"], ceil_mode=1, **attributes)
    model = helper.make_model(helper.make_graph([node], "pool", [given], [told]), opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    model = shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    shown = core.compile_model(core.read_model(data), "CPU")([image])[0]
    declared = tuple(side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim)
    return shown, onnxruntime.InferenceSession(data).run(None, {"image": image})[0], declared


CASES = [
    ((9, 8), {"kernel_shape": [3, 3], "strides": [4, 4]}, True),
    ((9, 9), {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]}, True),
    ((8, 8), {"kernel_shape": [3, 3], "strides": [2, 2]}, False),
]
for side, attributes, larger in CASES:
    for kind in ("MaxPool", "AveragePool"):
        shown, wanted, declared = pooled(kind, 22, side, **attributes)
        lowest = float(shown.min())
        words = "".join(f", {name.removesuffix('_shape')} {value}" for name, value in attributes.items())
        print(f"{kind:11} {side}{words}: declared {declared[2:]}, OpenVINO {shown.shape[2:]}, lowest {lowest:.1e}")
        assert wanted.shape == declared, "the behaviour of onnxruntime has changed"
        extra = larger and kind == "MaxPool"
        assert (shown.shape != declared) == (lowest < -1e38) == extra, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
