#!/usr/bin/env bash
# aimet-onnx 2.42.0: cross-layer equalisation and the folding of batch norms, which keep a network's outputs, change them.
#
# Behaviour: `equalize_model` absorbs high biases by the batch norm that was folded into a layer, also where that batch norm stood before
# the layer and says nothing of what the layer gives; and it moves biases through the zero padding of the next layer as if there were none.
# It takes no notice of outputs: maps that a network returns beside its result come out scaled. `fold_all_batch_norms_to_weight` folds a
# batch norm into a convolution behind it whose padding is called "SAME_UPPER" (one with `pads` is left alone): the border lacks the offset.
# Nothing is said. aimet-torch 2.42.0 does the first three, too.
# Guess before: folding and equalisation keep the float outputs, for grouped, transposed, dilated and padded convolutions.
# Seen (aimet-onnx 2.42.0, onnx 1.23.2, onnxruntime 1.32.0, torch 2.13.0, Python 3.11, Linux x86-64), largest difference of an output by
# its largest value:
#   folded, norm - convolution, pads 1: 0.00
#   folded, norm - convolution, SAME_UPPER: 0.71
#   equalised, convolution - norm - ReLU - convolution: 0.00
#   equalised, norm - convolution - ReLU - convolution: 0.17
#   equalised, convolution - norm - convolution: 0.00
#   equalised, convolution - norm - convolution, pads 1: 1.02
#   equalised, convolution - ReLU - convolution: 0.00
#   equalised, the same, maps of the ReLU put out too: 0.66
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install --no-deps aimet-onnx==2.42.0  # what it needs for equalisation follows; the rest draws plots
install onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2 onnx-ir==1.1.0 numpy==2.4.6 torch==2.13.0 scipy==1.17.1 scikit-learn==1.9.1 \
  pandas==3.1.1 bokeh==3.6.3 jsonschema jinja2 pyyaml psutil tqdm
cat > "$folder/look.py" <<'PY'
import logging

import numpy as np
import onnx
import onnxruntime
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.cross_layer_equalization import equalize_model
from onnx import TensorProto, helper, numpy_helper

logging.disable(logging.CRITICAL)  # lists of folded layers
rng = np.random.default_rng(0)
SHAPE = (2, 8, 9, 9)
image = rng.normal(size=SHAPE).astype(np.float32)


def network(*layers, outputs=(-1,)):
    """Layers one after another: "norm", "relu", or the settings of a 3 x 3 convolution; the outputs are maps of some of them."""
    nodes, weights, taken = [], [], "x"

    def stored(values):
        weights.append(numpy_helper.from_array(np.asarray(values, np.float32), f"weight{len(weights)}"))
        return weights[-1].name

    for number, layer in enumerate(layers):
        name = f"layer{number}"
        if layer == "relu":
            nodes.append(helper.make_node("Relu", [taken], [name], name=name))
        elif layer == "norm":
            values = [np.full(8, 0.2), np.full(8, 2.0), np.zeros(8), np.full(8, 1.0 if taken == "x" else 30.0)]  # offsets of 10 spreads
            nodes.append(helper.make_node("BatchNormalization", [taken, *map(stored, values)], [name], name=name))
        else:
            kernels = rng.normal(size=(8, 8, 3, 3)) / 8 * np.linspace(0.2, 5, 8)[:, None, None, None]
            nodes.append(helper.make_node("Conv", [taken, stored(kernels), stored(rng.normal(size=8))], [name], name=name, group=1, **layer))
        taken = name
    given = [helper.make_tensor_value_info(nodes[number].output[0], TensorProto.FLOAT, None) for number in outputs]
    graph = helper.make_graph(nodes, "look", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)], given, weights)
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": image})


plain, padded, same = {"pads": [0] * 4}, {"pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}
fold, equalise = fold_all_batch_norms_to_weight, equalize_model
CASES = [
    ("folded, norm - convolution, pads 1", fold, network("norm", padded), True),
    ("folded, norm - convolution, SAME_UPPER", fold, network("norm", same), False),
    ("equalised, convolution - norm - ReLU - convolution", equalise, network(plain, "norm", "relu", plain), True),
    ("equalised, norm - convolution - ReLU - convolution", equalise, network("norm", plain, "relu", plain), False),
    ("equalised, convolution - norm - convolution", equalise, network(plain, "norm", plain), True),
    ("equalised, convolution - norm - convolution, pads 1", equalise, network(plain, "norm", padded), False),
    ("equalised, convolution - ReLU - convolution", equalise, network(plain, "relu", plain), True),
    ("equalised, the same, maps of the ReLU put out too", equalise, network(plain, "relu", plain, outputs=(-1, 1)), False),
]
for words, change, model, right in CASES:
    wanted = run(model)
    change(model)
    apart = max(float(abs(two - one).max() / abs(one).max()) for one, two in zip(wanted, run(model)))
    print(f"{words}: {apart:.2f}")
    assert apart < 1e-4 if right else apart > 0.05, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
