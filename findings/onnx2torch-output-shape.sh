#!/usr/bin/env bash
# onnx2torch 1.5.15, ConvTranspose with the attribute `output_shape`: the attribute is passed over, the output is larger.
#
# Behaviour: ONNX lets a transposed convolution name its output size in `output_shape` and derives the padding from it; files of
# Keras decoders do that. onnx2torch reads `pads` and `output_padding` alone: the layer of a file that asks for 16 x 16 gives
# 17 x 17, without a word. (`auto_pad`, which it does not know either, it refuses with NotImplementedError.)
# Guess before: refused as `auto_pad` is, or right.
# Seen (Python 3.11, torch 2.14.1, onnx 1.20.1, onnxruntime 1.23.2, Linux x86-64):
#   without output_shape: (1, 3, 17, 17) and (1, 3, 17, 17), equal
#   output_shape 16 x 16: onnxruntime (1, 3, 16, 16), onnx2torch (1, 3, 17, 17)
#   output_shape 18 x 18: onnxruntime (1, 3, 18, 18), onnx2torch (1, 3, 17, 17)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.2.6 onnx==1.20.1 \
    onnxruntime==1.23.2 onnx2torch==1.5.15
cat > "$folder/look.py" <<'PY'
import warnings

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, checker, helper, numpy_helper

warnings.simplefilter("ignore")
from onnx2torch import convert


def both(**attributes):
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in
            (("x", (1, 4, 8, 8)), ("y", (1, 3, None, None)))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    image = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0], convert(model)(torch.from_numpy(image)).detach().numpy()


runtime, found = both()
assert np.allclose(runtime, found, atol=1e-5)
print(f"without output_shape: {runtime.shape} and {found.shape}, equal")
for size in (16, 18):
    runtime, found = both(output_shape=[size, size])
    print(f"output_shape {size} x {size}: onnxruntime {runtime.shape}, onnx2torch {found.shape}")
    assert runtime.shape == (1, 3, size, size) and found.shape == (1, 3, 17, 17), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
