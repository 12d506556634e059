#!/usr/bin/env bash
# silero-vad 6.2.3 (speech in audio): its ONNX files hold every convolution inside the branches of an `If`.
#
# Behaviour: the graph of `silero_vad.onnx` has five nodes and no initialiser; convolutions and their weights, as `Constant`
# nodes, stand in the graphs that are attributes of an `If` on the sampling rate, one network for 16 kHz and one for 8 kHz.
# In `silero_vad_op18_ifless.onnx` convolutions are in branches of an `If` again, but the weights are initialisers of the
# graph outside. Whoever reads weights from `graph.node` or walks the top level finds no convolution in either file.
# Guess before: one graph, its convolutions' weights initialisers; no `If` in the file called "ifless".
# Seen (silero-vad 6.2.3, onnx 1.23.2, Python 3.11):
#   silero_vad.onnx: top level 0 Conv, 0 initialisers, 1 If; in branches 12 Conv, 12 of them with a Constant as weight
#   silero_vad_op18_ifless.onnx: top level 0 Conv, 45 initialisers, 1 If; in branches 12 Conv, 0 of them with a Constant as weight
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip install --quiet --disable-pip-version-check"
$pip onnx==1.23.2
$pip --no-deps silero-vad==6.2.3
cat > "$folder/look.py" <<'PY'
import pathlib
import sysconfig

import onnx

data = pathlib.Path(sysconfig.get_paths()["purelib"]) / "silero_vad" / "data"


def inner(graph):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
                yield from inner(attribute.g)


def convolutions(graph):
    return [node for node in graph.node if node.op_type == "Conv"]


for file, initialisers, constants in (("silero_vad.onnx", 0, 12), ("silero_vad_op18_ifless.onnx", 45, 0)):
    graph = onnx.load(data / file).graph
    branches = list(inner(graph))
    held = {name for each in branches for node in each.node if node.op_type == "Constant" for name in node.output}
    found = [node for each in branches for node in convolutions(each)]
    by_constant = sum(node.input[1] in held for node in found)
    ifs = sum(node.op_type == "If" for node in graph.node)
    print(f"{file}: top level {len(convolutions(graph))} Conv, {len(graph.initializer)} initialisers, {ifs} If; "
          f"in branches {len(found)} Conv, {by_constant} of them with a Constant as weight")
    seen = (len(convolutions(graph)), len(graph.initializer), ifs, len(found), by_constant)
    assert seen == (0, initialisers, 1, 12, constants), "the files have changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
