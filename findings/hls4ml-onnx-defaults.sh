#!/usr/bin/env bash
# hls4ml 1.3.0: `Elu` and `ThresholdedRelu` of an ONNX file that names no alpha get 0.01, where ONNX means 1: ELU becomes a ReLU.
#
# Behaviour: the ONNX converter gives the three activations with a parameter the default of `LeakyRelu`. The negative side of an ELU is a
# hundred times too small, and a threshold of 1 is one of 0.01. Files that write the default out are right. Nothing is said. (By their
# source, the converters of Keras and torch take 1.)
# Guess before: in wide fixed point it agrees with onnxruntime to 1e-2.
# Seen (hls4ml 1.3.0, onnx 1.23.2, onnxruntime 1.32.0, NumPy 2.4.6, Python 3.11, g++ of Debian, Linux x86-64), of -3, -1, 0.5, 0.8, 1.5:
#   Elu, alpha 1 written: -0.95 -0.63 0.50 0.80 1.50 (onnxruntime -0.95 -0.63 0.50 0.80 1.50)
#   Elu: -0.01 -0.01 0.50 0.80 1.50 (onnxruntime -0.95 -0.63 0.50 0.80 1.50)
#   ThresholdedRelu, alpha 1 written: 0.00 0.00 0.00 0.00 1.50 (onnxruntime 0.00 0.00 0.00 0.00 1.50)
#   ThresholdedRelu: 0.00 0.00 0.50 0.80 1.50 (onnxruntime 0.00 0.00 0.00 0.00 1.50)
#   LeakyRelu: -0.03 -0.01 0.50 0.80 1.50 (onnxruntime -0.03 -0.01 0.50 0.80 1.50)
# Needs g++.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hls4ml==1.3.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import contextlib
import io
import sys

import hls4ml
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

LAYERS = (("Elu", {"alpha": 1.0}), ("Elu", {}), ("ThresholdedRelu", {"alpha": 1.0}), ("ThresholdedRelu", {}), ("LeakyRelu", {}))
given = np.array([[-3, -1, 0.5, 0.8, 1.5]], np.float32)

# One network with an output for each layer, so that it is compiled once.
names = [f"y{number}" for number in range(len(LAYERS))]
nodes = [helper.make_node(kind, ["x"], [name], name=f"{name}_layer", **settings) for name, (kind, settings) in zip(names, LAYERS)]
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, given.shape) for name in ("x", *names)]
graph = helper.make_graph(nodes, "look", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": given})

with contextlib.redirect_stdout(io.StringIO()):
    settings = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vivado", default_precision="fixed<32,16>")
    options = {"output_dir": sys.argv[1], "backend": "Vivado", "io_type": "io_parallel", "hls_config": settings}
    converted = hls4ml.converters.convert_from_onnx_model(model, **options)
    converted.compile()
    found = converted.predict(given)

for (kind, settings), right, put_out in zip(LAYERS, wanted, found):
    put_out = put_out.reshape(right.shape)
    texts = [" ".join(f"{number:.2f}" for number in numbers[0]) for numbers in (put_out, right)]
    print(f"{kind}{', alpha 1 written' if settings else ''}: {texts[0]} (onnxruntime {texts[1]})")
    same = settings or kind == "LeakyRelu"
    apart = abs(put_out - right).max()
    assert apart < 0.01 if same else apart > 0.5, "the behaviour has changed"
    assert kind != "Elu" or same or np.allclose(put_out[right < 0], right[right < 0] / 100, atol=1e-3), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" "$folder/project"
