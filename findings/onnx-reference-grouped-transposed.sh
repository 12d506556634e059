#!/usr/bin/env bash
# onnx 1.23.2, `onnx.reference.ReferenceEvaluator`: grouped transposed convolutions are not computed.
#
# Behaviour: the project's own reference raises ValueError ("cannot reshape array") on `ConvTranspose` with group 2, where
# the checker accepts the model and onnxruntime runs it. Depthwise upsampling is of this kind. So an export of such a
# network cannot be checked against onnx's reference; a sum written out by hand agrees with onnxruntime.
# Guess before: the reference covers every attribute of the operator, only slowly.
# Seen (onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.2.6, Python 3.11, Linux x86-64):
#   group 1: reference agrees with the sum by hand: True, onnxruntime agrees: True
#   group 2: reference raises ValueError, onnxruntime agrees: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/look.py" <<'PY'
import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = numpy.random.default_rng(0)
images = rng.standard_normal((1, 4, 5, 6)).astype("float32")


def by_hand(weight: numpy.ndarray, groups: int) -> numpy.ndarray:
    """Every input value spreads its kernel over the output, stride 2, no padding."""
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    found = numpy.zeros((1, groups * outputs, 11, 13))
    for group in range(groups):
        for i in range(inputs):
            for o in range(outputs):
                for (row, column), value in numpy.ndenumerate(images[0, group * inputs + i]):
                    rows, columns = slice(2 * row, 2 * row + 3), slice(2 * column, 2 * column + 3)
                    found[0, group * outputs + o, rows, columns] += value * weight[group * inputs + i, o]
    return found


for groups in (1, 2):
    weight = rng.standard_normal((4, 3, 3, 3)).astype("float32")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=groups, strides=[2, 2])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, images.shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3 * groups, 11, 13])
    graph = helper.make_graph([node], "one", [given], [made], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = by_hand(weight, groups)
    run = numpy.allclose(session.run(None, {"x": images})[0], wanted, atol=1e-4)
    try:
        same = numpy.allclose(ReferenceEvaluator(model).run(None, {"x": images})[0], wanted, atol=1e-4)
        reference = f"agrees with the sum by hand: {same}"
    except ValueError:
        reference = "raises ValueError"
    print(f"group {groups}: reference {reference}, onnxruntime agrees: {run}")
    assert run, "onnxruntime was right"
    assert (reference == "raises ValueError") == (groups > 1), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
