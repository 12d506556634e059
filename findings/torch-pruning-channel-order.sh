#!/usr/bin/env bash
# torch-pruning 1.6.1: where channels change their order between two layers, inputs of other channels are pruned, without a word.
#
# Behaviour: a pruned output channel takes the inputs with it that read it. The graph follows concatenation, chunks and a flattening
# of (channels, height, width), but takes every other operation for one that keeps the order. After `nn.ChannelShuffle`, a pixel
# shuffle, a gated linear unit, or a flattening of (height, width, channels), as in networks that came from TensorFlow, the shapes
# fit and the next layer keeps the weights of channels that are gone. Nothing is said. Some orders that do not fit are refused by an error.
# Checked on channels whose weights and bias are zero: taking them out must not change the output.
# Guess before: each of these is either pruned right or refused.
# Seen (torch-pruning 1.6.1, torch 2.13.0, Python 3.11, Linux x86-64), channels 1, 6, 11 and 12 of 16 are zero and pruned,
# change of the output over the largest output:
#   nothing between 0.00
#   flatten (channels, height, width) 0.00
#   tokens (positions, channels) 0.00
#   concatenated with its negative 0.00
#   flatten (height, width, channels) 1.06
#   nn.ChannelShuffle(4) 1.08
#   gated linear unit 0.17
#   nn.PixelShuffle(2) 0.66
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 torch-pruning==1.6.1
cat > "$folder/look.py" <<'PY'
import torch
import torch_pruning
from torch import nn
from torch.nn.functional import glu

ZERO = [1, 6, 11, 12]
RIGHT = {
    "nothing between": (lambda x: x, nn.Conv2d(16, 10, 1)),
    "flatten (channels, height, width)": (lambda x: x.flatten(1), nn.Linear(16 * 64, 10)),
    "tokens (positions, channels)": (lambda x: x.flatten(2).transpose(1, 2), nn.Linear(16, 10)),
    "concatenated with its negative": (lambda x: torch.cat([x, -x], 1), nn.Conv2d(32, 10, 1)),
}
WRONG = {
    "flatten (height, width, channels)": (lambda x: x.permute(0, 2, 3, 1).flatten(1), nn.Linear(16 * 64, 10)),
    "nn.ChannelShuffle(4)": (nn.ChannelShuffle(4), nn.Conv2d(16, 10, 1)),
    "gated linear unit": (lambda x: glu(x, 1), nn.Conv2d(8, 10, 1)),
    "nn.PixelShuffle(2)": (nn.PixelShuffle(2), nn.Conv2d(4, 10, 1)),
}


class Network(nn.Module):
    def __init__(self, between, last):
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, 16, 3, padding=1), between, last

    def forward(self, image):
        return self.last(self.between(torch.relu(self.first(image))))


def change(between, last):
    model = Network(between, last).eval()
    with torch.no_grad():
        model.first.weight[ZERO] = 0
        model.first.bias[ZERO] = 0
        before = model(image)
    graph = torch_pruning.DependencyGraph().build_dependency(model, image)
    graph.get_pruning_group(model.first, torch_pruning.prune_conv_out_channels, list(ZERO)).prune()
    with torch.no_grad():
        return float((model(image) - before).abs().max() / before.abs().max())


torch.manual_seed(1)
image = torch.randn(2, 3, 8, 8)
for cases, right in ((RIGHT, True), (WRONG, False)):
    for name, (between, last) in cases.items():
        for tensor in last.parameters():
            nn.init.normal_(tensor)
        gap = change(between, last)
        print(f"{name} {gap:.2f}")
        assert (gap < 1e-5) == right and (right or gap > 0.05), "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
