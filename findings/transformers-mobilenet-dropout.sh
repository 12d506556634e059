#!/usr/bin/env bash
# transformers 5.24.0, MobileNetV1 and V2: by default nearly all features are dropped before the head in training.
#
# Behaviour: `classifier_dropout_prob` is 0.999 for MobileNetV1Config and 0.8 for MobileNetV2Config: in training mode one
# feature in a thousand, or in five, reaches the head. (0.999 is the keep probability and the decay of the networks'
# TensorFlow scripts.) A network from a configuration, and a head tuned on frozen features, learn next to nothing, or far
# more slowly, and nothing is said.
# Guess before: 0.1 or 0.2, as most networks of that size have.
# Seen (transformers 5.24.0, torch 2.14.1, Python 3.11, Linux x86-64):
#   MobileNetV1: 0.1 % of the features reach the head in training
#   MobileNetV2: 19.2 % of the features reach the head in training
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0
cat > "$folder/look.py" <<'PY'
import torch
from transformers import (
    MobileNetV1Config,
    MobileNetV1ForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
)

kinds = {
    "MobileNetV1": (MobileNetV1Config, MobileNetV1ForImageClassification, 0.01),
    "MobileNetV2": (MobileNetV2Config, MobileNetV2ForImageClassification, 0.25),
}
for name, (config, network, most) in kinds.items():
    torch.manual_seed(0)
    model = network(config(num_labels=10)).train()
    seen = []
    model.dropout.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    model.dropout.register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    model(torch.randn(8, 3, 64, 64))
    before, after = seen
    share = float((after[before != 0] != 0).float().mean())
    print(f"{name}: {100 * share:.1f} % of the features reach the head in training")
    assert share < most, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
