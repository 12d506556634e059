#!/usr/bin/env bash
# onnxruntime 1.32.0 and onnx 1.23.2: `ConvTranspose` with `auto_pad="SAME_UPPER"` and a stride larger than the kernel.
#
# Behaviour: the operator's text gives output = input x stride. onnx's reference evaluator follows it (15 x 18 from 5 x 6
# at stride 3); onnx's own shape inference and onnxruntime give 14 x 17 for the same model, which the checker accepts.
# Nothing is said by any of them. Such layers (2 x 2 kernels, stride 3) stand in upsampling heads.
# Guess before: one shape, as for kernels at least as large as the stride.
# Seen (onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.2.6, Python 3.11, Linux x86-64):
#   kernel 3, stride 2: inferred [1, 3, 10, 12], reference (1, 3, 10, 12), onnxruntime (1, 3, 10, 12)
#   kernel 2, stride 3: inferred [1, 3, 14, 17], reference (1, 3, 15, 18), onnxruntime (1, 3, 14, 17)
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
onnxruntime.set_default_logger_severity(4)
for kernel, stride in ((3, 2), (2, 3)):
    weight = numpy_helper.from_array(rng.standard_normal((4, 3, kernel, kernel)).astype("float32"), "w")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[stride, stride])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, images.shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph([node], "one", [given], [made], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
    sides = [side.dim_value for side in inferred]
    reference = ReferenceEvaluator(model).run(None, {"x": images})[0]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": images})[0]
    print(f"kernel {kernel}, stride {stride}: inferred {sides}, reference {reference.shape}, onnxruntime {found.shape}")
    assert reference.shape[2:] == (5 * stride, 6 * stride), "the reference gives input x stride"
    assert (found.shape == reference.shape) == (kernel >= stride), "the behaviour has changed"
    assert tuple(sides) == found.shape, "shape inference agreed with onnxruntime"
PY
"$folder/venv/bin/python" "$folder/look.py"
