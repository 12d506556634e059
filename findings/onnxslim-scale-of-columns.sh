#!/usr/bin/env bash
# onnxslim 0.1.98: a factor for each column behind a convolution is folded into its weights as if it were one for each channel.
#
# Behaviour: where `Conv` or `ConvTranspose` is followed by `Mul` with a constant of as many numbers as the layer has output
# channels, the numbers go into the weights, one a channel, whatever the shape of the constant. By the rules of
# broadcasting (8,), (1, 8) and (1, 1, 1, 8) are factors of the columns and (8, 1) and (1, 8, 1) of the rows; only (8, 1, 1) and
# (1, 8, 1, 1) are factors of the channels. The slimmed file runs and gives other numbers, without a word. onnxruntime's own
# optimiser, onnxsim and onnxoptimizer leave such a factor alone.
# Guess before: what it fuses computes the same.
# Seen (onnxslim 0.1.98, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, Linux x86-64), outputs of the slimmed file by shape of the factor:
#   Conv          (8,) wrong, (1, 8) wrong, (8, 1) wrong, (1, 8, 1) wrong, (1, 1, 1, 8) wrong, (8, 1, 1) right, (1, 8, 1, 1) right, (8, 8) right
#   ConvTranspose (8,) wrong, (1, 8) wrong, (8, 1) wrong, (1, 8, 1) wrong, (1, 1, 1, 8) wrong, (8, 1, 1) right, (1, 8, 1, 1) right, (8, 8) right
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy
import onnx
import onnxruntime
import onnxslim
from onnx import helper, numpy_helper

SHAPES = [(8,), (1, 8), (8, 1), (1, 8, 1), (1, 1, 1, 8), (8, 1, 1), (1, 8, 1, 1), (8, 8)]
rng = numpy.random.default_rng(0)
image = rng.normal(size=(1, 4, 8, 8)).astype(numpy.float32)


def scaled(kind, shape):
    """A layer of 8 output channels on 8 x 8 pixels, times a constant of this shape."""
    weight = rng.normal(size=(8, 4, 3, 3) if kind == "Conv" else (4, 8, 3, 3)).astype(numpy.float32)
    factor = rng.uniform(0.5, 2, shape).astype(numpy.float32)
    nodes = [
        helper.make_node(kind, ["image", "weight"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["features", "factor"], ["scaled"]),
    ]
    given = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, image.shape)
    told = helper.make_tensor_value_info("scaled", onnx.TensorProto.FLOAT, (1, 8, 8, 8))
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(factor, "factor")]
    graph = helper.make_graph(nodes, "scaled", [given], [told], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def output(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"image": image})[0]


for kind in ("Conv", "ConvTranspose"):
    words = {}
    for shape in SHAPES:
        model = scaled(kind, shape)
        far = float(numpy.abs(output(onnxslim.slim(model)) - output(model)).max())
        words[shape] = "right" if far < 1e-4 else "wrong"
    print(f"{kind:13} " + ", ".join(f"{shape} {word}" for shape, word in words.items()))
    assert list(words.values()) == ["wrong"] * 5 + ["right"] * 3, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
