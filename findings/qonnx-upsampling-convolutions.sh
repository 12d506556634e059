#!/usr/bin/env bash
# qonnx 1.0.0: convolutions that upsample become transposed ones with other channels, other pixels, or another size.
#
# Behaviour: `SubPixelToDeconvolution` replaces a convolution and `DepthToSpace` by a transposed convolution. It does not read the mode of
# `DepthToSpace`, and takes "CRD" (torch's pixel shuffle) where the default of ONNX is "DCR" (TensorFlow's). It also takes over the padding
# of the convolution, where a kernel of even size needs the two sides exchanged: the image is shifted by a pixel or two. `ResizeConvolutionToDeconvolution`
# does the same, reads no `nearest_mode`, and cuts a scale of 1.5 to 1. Nothing is said; grouped ones are skipped with a warning.
# Guess before: rewritten graphs compute the same to 1e-4.
# Seen (qonnx 1.0.0, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, Linux x86-64), sizes before and after of an image of
# 8 x 8, and the largest difference:
#   DepthToSpace CRD, kernel 3 x 3: 16 x 16, 16 x 16, 0.000
#   DepthToSpace DCR, kernel 3 x 3: 16 x 16, 16 x 16, 4.239
#   DepthToSpace without a mode, kernel 3 x 3: 16 x 16, 16 x 16, 4.333
#   DepthToSpace CRD, kernel 2 x 2: 16 x 16, 16 x 16, 5.501
#   Resize by 2, kernel 3 x 3: 16 x 16, 16 x 16, 0.000
#   Resize by 2, kernel 4 x 4: 16 x 16, 16 x 16, 4.032
#   Resize by 2, asymmetric, nearest_mode ceil: 16 x 16, 16 x 16, 4.633
#   Resize by 1.5, kernel 3 x 3: 12 x 12, 8 x 8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check qonnx==1.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.resize_conv_to_deconv import ResizeConvolutionToDeconvolution
from qonnx.transformation.subpixel_to_deconv import SubPixelToDeconvolution

rng = np.random.default_rng(0)
image = rng.normal(size=(1, 4, 8, 8)).astype(np.float32)


def graph(nodes, initialisers):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", image.shape), ("y", [None] * 4))]
    made = helper.make_graph(nodes, "look", values[:1], values[1:], initialisers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def convolution(taken, given, channels, kernel):
    before = (kernel - 1) // 2
    after = kernel - 1 - before
    weight = rng.normal(size=(channels, 4, kernel, kernel)).astype(np.float32) / (2 * kernel)
    settings = {"kernel_shape": [kernel] * 2, "strides": [1, 1], "pads": [before, before, after, after], "group": 1, "dilations": [1, 1]}
    return helper.make_node("Conv", [taken, "w"], [given], **settings), numpy_helper.from_array(weight, "w")


def shuffled(kernel, **mode):
    node, weight = convolution("x", "h", 8, kernel)
    return graph([node, helper.make_node("DepthToSpace", ["h"], ["y"], blocksize=2, **mode)], [weight])


def resized(kernel, scale, **nearest):
    node, weight = convolution("h", "y", 3, kernel)
    settings = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", **nearest}
    scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "s")
    return graph([helper.make_node("Resize", ["x", "", "s"], ["h"], **settings), node], [weight, scales])


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0]


SUB, SIZE = SubPixelToDeconvolution, ResizeConvolutionToDeconvolution
CASES = [
    ("DepthToSpace CRD, kernel 3 x 3", SUB, shuffled(3, mode="CRD"), True),
    ("DepthToSpace DCR, kernel 3 x 3", SUB, shuffled(3, mode="DCR"), False),
    ("DepthToSpace without a mode, kernel 3 x 3", SUB, shuffled(3), False),
    ("DepthToSpace CRD, kernel 2 x 2", SUB, shuffled(2, mode="CRD"), False),
    ("Resize by 2, kernel 3 x 3", SIZE, resized(3, 2), True),
    ("Resize by 2, kernel 4 x 4", SIZE, resized(4, 2), False),
    ("Resize by 2, asymmetric, nearest_mode ceil", SIZE, resized(3, 2, coordinate_transformation_mode="asymmetric", nearest_mode="ceil"), False),
    ("Resize by 1.5, kernel 3 x 3", SIZE, resized(3, 1.5), False),
]
for words, transformation, model, right in CASES:
    wanted = run(model)
    rewritten = ModelWrapper(model).transform(InferShapes()).transform(transformation())
    types = [node.op_type for node in rewritten.graph.node]
    assert types == ["ConvTranspose"], "the behaviour has changed"
    found = run(rewritten.model)
    sides = ["{} x {}".format(*maps.shape[2:]) for maps in (wanted, found)]
    same = wanted.shape == found.shape
    apart = float(abs(found - wanted).max()) if same else None
    print(f"{words}: {sides[0]}, {sides[1]}" + (f", {apart:.3f}" if same else ""))
    assert (same and apart < 1e-4) == right, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
