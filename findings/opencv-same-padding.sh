#!/usr/bin/env bash
# OpenCV 5.0.0, `cv2.dnn` on ONNX files: "SAME" pads by the kernel alone, whatever the stride, and SAME_LOWER is SAME_UPPER.
#
# Behaviour: by the standard `auto_pad` pads (outputs - 1) stride + kernel - size in all, the odd one behind for SAME_UPPER and before for
# SAME_LOWER. OpenCV pads as many for a stride of 2 or 3 as for a stride of 1, half of it before. So the commonest pooling of networks
# from TensorFlow, 3 x 3, stride 2, on an even side, looks at windows one pixel further up and left, and SAME_LOWER with even
# kernels gives what SAME_UPPER gives. So do convolutions. The shape is right; nothing is said.
# A `PRelu` whose slopes have the shape (W,), by the rules of broadcasting one a column, is computed with one a channel where
# there are as many channels. Files with explicit `pads` are right, and so are slopes of the shape (C, 1, 1).
# Guess before: each layer gives what onnxruntime gives, or is refused.
# Seen (opencv-python-headless 5.0.0.93, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, Linux x86-64):
#   MaxPool 3 x 3, stride 2, pads [0, 0, 1, 1] right, shape True
#   MaxPool 3 x 3, stride 2, SAME_UPPER        wrong, shape True
#   AveragePool 3 x 3, stride 2, SAME_UPPER    wrong, shape True
#   Conv 3 x 3, stride 2, SAME_UPPER           wrong, shape True
#   Conv 3 x 3, stride 3, SAME_UPPER           wrong, shape True
#   MaxPool 2 x 2, stride 1, SAME_UPPER        right, shape True
#   MaxPool 2 x 2, stride 1, SAME_LOWER        wrong, shape True
#   Conv 2 x 2, stride 1, SAME_LOWER           wrong, shape True
#   PRelu, slopes (8, 1, 1)                    right, shape True
#   PRelu, slopes (8,)                         wrong, shape True
#   SAME_UPPER of that MaxPool is pads [1, 1, 0, 0]: True
#   SAME_LOWER of that Conv is SAME_UPPER: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import cv2
import numpy
import onnx
import onnxruntime
from onnx import helper, numpy_helper

rng = numpy.random.default_rng(0)
IMAGE = rng.normal(size=(1, 8, 8, 8)).astype(numpy.float32)
KERNEL = {size: rng.normal(size=(8, 8, size, size)).astype(numpy.float32) for size in (2, 3)}
SLOPES = rng.uniform(0, 1, 8).astype(numpy.float32)


def node(kind, *constants, **attributes):
    """A file of one layer: `constants` are its further inputs."""
    names = ["image", *(f"constant{i}" for i in range(len(constants)))]
    given = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, IMAGE.shape)
    told = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 8, None, None])
    tensors = [numpy_helper.from_array(value, name) for value, name in zip(constants, names[1:], strict=True)]
    graph = helper.make_graph([helper.make_node(kind, names, ["output"], **attributes)], "one", [given], [told], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def outputs(data):
    net = cv2.dnn.readNetFromONNX(numpy.frombuffer(data, numpy.uint8))
    net.setInput(IMAGE)
    return net.forward(), onnxruntime.InferenceSession(data).run(None, {"image": IMAGE})[0]


def layer(kind, size, stride, **padding):
    weights = (KERNEL[size],) if kind == "Conv" else ()
    return node(kind, *weights, kernel_shape=[size] * 2, strides=[stride] * 2, **padding)


UPPER, LOWER = {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}
CASES = [
    ("MaxPool 3 x 3, stride 2, pads [0, 0, 1, 1]", layer("MaxPool", 3, 2, pads=[0, 0, 1, 1]), True),
    ("MaxPool 3 x 3, stride 2, SAME_UPPER", layer("MaxPool", 3, 2, **UPPER), False),
    ("AveragePool 3 x 3, stride 2, SAME_UPPER", layer("AveragePool", 3, 2, **UPPER), False),
    ("Conv 3 x 3, stride 2, SAME_UPPER", layer("Conv", 3, 2, **UPPER), False),
    ("Conv 3 x 3, stride 3, SAME_UPPER", layer("Conv", 3, 3, **UPPER), False),
    ("MaxPool 2 x 2, stride 1, SAME_UPPER", layer("MaxPool", 2, 1, **UPPER), True),
    ("MaxPool 2 x 2, stride 1, SAME_LOWER", layer("MaxPool", 2, 1, **LOWER), False),
    ("Conv 2 x 2, stride 1, SAME_LOWER", layer("Conv", 2, 1, **LOWER), False),
    ("PRelu, slopes (8, 1, 1)", node("PRelu", SLOPES.reshape(8, 1, 1)), True),
    ("PRelu, slopes (8,)", node("PRelu", SLOPES), False),
]
for name, data, right in CASES:
    given, wanted = outputs(data)
    far = float(numpy.abs(given - wanted).max())
    print(f"{name:42} {'right' if far < 1e-4 else 'wrong'}, shape {given.shape == wanted.shape}")
    assert given.shape == wanted.shape and (far < 1e-4) == right, "the behaviour has changed"
shifted = outputs(layer("MaxPool", 3, 2, **UPPER))[0]
padded = outputs(layer("MaxPool", 3, 2, pads=[1, 1, 0, 0]))[1]
print(f"SAME_UPPER of that MaxPool is pads [1, 1, 0, 0]: {numpy.array_equal(shifted, padded)}")
assert numpy.array_equal(shifted, padded), "the behaviour has changed"
lower, upper = (outputs(layer("Conv", 2, 1, **padding))[0] for padding in (LOWER, UPPER))
print(f"SAME_LOWER of that Conv is SAME_UPPER: {numpy.allclose(lower, upper)}")
assert numpy.allclose(lower, upper), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
