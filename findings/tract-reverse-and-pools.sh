#!/usr/bin/env bash
# tract 0.23.9: recurrent layers that run backwards run forwards, and pools by norm, CELU and output shapes compute something else.
#
# Behaviour: tract does not read the `direction` of a recurrent layer. One of two directions is right, "reverse" runs forwards: each step
# knows the past where it is to know the future. `GlobalLpPool` averages where ONNX sums, and takes no magnitudes: degree 1 gives the mean,
# degree 3 gives NaN where the sum is negative. `Celu` leaves out its factor alpha. A transposed convolution that names its
# `output_shape` crops all it has too much at the end, where ONNX crops both sides: the image is shifted by a pixel. Nothing is said.
# Guess before: each layer computes what onnxruntime does to 1e-3, or raises.
# Seen (tract 0.23.9, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, Linux x86-64), largest difference from onnxruntime, by
# the largest value:
#   LSTM, forward: 0.00
#   LSTM, bidirectional: 0.00
#   LSTM, reverse: 0.37, 0.00 from the same layer forwards
#   GRU, reverse: 1.14, 0.00 from the same layer forwards
#   RNN, reverse: 1.86, 0.00 from the same layer forwards
#   GlobalAveragePool: 0.00
#   GlobalLpPool, p = 2, 8 x 8 pixels: 0.88
#   GlobalLpPool, p = 1, 8 x 8 pixels: 1.00
#   GlobalLpPool, p = 3, 8 x 8 pixels: nan
#   Celu, alpha 1: 0.00
#   Celu, alpha 0.25: 0.30
#   ConvTranspose, stride 2, padding 1: 0.00
#   ConvTranspose, stride 2, output_shape of padding 1: 1.38, 0.00 where shifted by a pixel
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def outputs(operator, given, weights=None, **settings):
    """What onnxruntime and tract make of a network of one layer."""
    weights = weights or {}
    node = helper.make_node(operator, ["x", *weights], ["y"], **settings)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", given.shape), ("y", [None] * 4))]
    initialisers = [numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    graph = helper.make_graph([node], "look", values[:1], values[1:], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    runnable = tract.onnx().load(sys.argv[1]).into_model().into_runnable()
    return session.run(None, {"x": given})[0], runnable.run([given])[0].to_numpy()


def apart(found, wanted):
    assert found.shape == wanted.shape, "the behaviour has changed"
    return float(abs(found - wanted).max() / abs(wanted).max())


steps = normal(5, 2, 3)
for operator, direction in (("LSTM", "forward"), ("LSTM", "bidirectional"), ("LSTM", "reverse"), ("GRU", "reverse"), ("RNN", "reverse")):
    gates, sides = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator], 1 + (direction == "bidirectional")
    weights = {"w": normal(sides, gates * 4, 3), "r": normal(sides, gates * 4, 4), "b": normal(sides, gates * 8)}
    wanted, found = outputs(operator, steps, weights, hidden_size=4, direction=direction)
    words = f"{operator}, {direction}: {apart(found, wanted):.2f}"
    if direction == "reverse":
        forwards = apart(found, outputs(operator, steps, weights, hidden_size=4)[0])
        words += f", {forwards:.2f} from the same layer forwards"
        assert forwards < 1e-5, "the behaviour has changed"
    print(words)
    assert apart(found, wanted) > 0.3 if direction == "reverse" else apart(found, wanted) < 1e-5, "the behaviour has changed"

image = normal(1, 4, 8, 8)
print(f"GlobalAveragePool: {apart(*outputs('GlobalAveragePool', image)):.2f}")
for degree in (2, 1, 3):
    wanted, found = outputs("GlobalLpPool", image, p=degree)
    print(f"GlobalLpPool, p = {degree}, 8 x 8 pixels: {apart(found, wanted):.2f}")
    with np.errstate(invalid="ignore"):
        mean = (image**degree).mean((2, 3), keepdims=True) ** np.float32(1 / degree)
    assert np.allclose(found, mean, atol=1e-4, equal_nan=True), "the behaviour has changed"
for alpha in (1.0, 0.25):
    wanted, found = outputs("Celu", image, alpha=alpha)
    print(f"Celu, alpha {alpha:g}: {apart(found, wanted):.2f}")
    assert np.allclose(found, np.where(image > 0, image, np.expm1(image / alpha)), atol=1e-5), "the behaviour has changed"

settings = {"kernel_shape": [3, 3], "strides": [2, 2]}
kernel = {"w": normal(4, 2, 3, 3)}
wanted, found = outputs("ConvTranspose", image, kernel, pads=[1] * 4, **settings)
print(f"ConvTranspose, stride 2, padding 1: {apart(found, wanted):.2f}")
assert apart(found, wanted) < 1e-5, "the behaviour has changed"
named, found = outputs("ConvTranspose", image, kernel, output_shape=[15, 15], **settings)
shifted = apart(found[:, :, 1:, 1:], wanted[:, :, :-1, :-1])
print(f"ConvTranspose, stride 2, output_shape of padding 1: {apart(found, named):.2f}, {shifted:.2f} where shifted by a pixel")
assert apart(named, wanted) < 1e-6 and apart(found, named) > 0.3 and shifted < 1e-5, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py" "$folder/layer.onnx"
