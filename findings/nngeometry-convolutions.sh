#!/usr/bin/env bash
# nngeometry 0.4: Fisher matrices of grouped convolutions have weights that do not exist, other layers are taken for plainer ones.
#
# Behaviour: `LayerCollection` counts a grouped convolution as an ungrouped one, and its gradients are those of the ungrouped one: the trace of
# the Fisher matrix of a depthwise convolution comes out about as many times too large as it has channels. Convolutions that pad by
# reflection or around the edge get gradients of zero padding, and batch norm those of the default `eps`. A layer that runs twice gets both
# its gradients from the inputs of the second run. A loader with `drop_last` divides by the images that it left out, too. Nothing is said.
# Guess before: the Fisher matrix of each layer that is known equals the one by automatic differentiation.
# Seen (nngeometry 0.4, torch 2.14.1, Python 3.11, Linux x86-64), size and trace of the Fisher matrix, true one in brackets:
#   convolution: 2304 (2304) weights, trace 386.583 (386.583), largest error 0.000 of the largest entry
#   stride 2, dilation 2: 2304 (2304) weights, trace 142.746 (142.746), largest error 0.000 of the largest entry
#   2 groups: 2304 (1152) weights, trace 425.944 (211.875)
#   16 groups: 2304 (144) weights, trace 426.111 (25.138)
#   padding reflect: 2304 (2304) weights, trace 613.866 (725.312), largest error 0.363 of the largest entry
#   padding circular: 2304 (2304) weights, trace 585.307 (702.283), largest error 0.375 of the largest entry
#   batch norm, eps 1e-05: 32 (32) weights, trace 0.510 (0.510), largest error 0.000 of the largest entry
#   batch norm, eps 0.001: 32 (32) weights, trace 0.545 (0.532), largest error 0.030 of the largest entry
#   linear layer, 1 x: 272 (272) weights, trace 1.262 (1.262), largest error 0.000 of the largest entry
#   linear layer, 2 x: 272 (272) weights, trace 0.583 (1.015), largest error 0.443 of the largest entry
#   30 images in batches of 16, drop_last=False: trace by that of the images used 1.000
#   30 images in batches of 16, drop_last=True: trace by that of the images used 0.533
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 nngeometry==0.4
cat > "$folder/look.py" <<'PY'
import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch import nn
from torch.func import functional_call, jacrev
from torch.utils.data import DataLoader, TensorDataset

IMAGE = (16, 8, 8)
torch.manual_seed(0)


class Network(nn.Module):
    """A layer with weights, run ``passes`` times, and a fixed linear head."""

    def __init__(self, layer, shape, passes=1):
        super().__init__()
        self.layer, self.passes = layer, passes
        self.head = torch.randn(self.features(torch.zeros(1, *shape)).shape[1], 3) / 20

    def features(self, images):
        for _ in range(self.passes):
            images = torch.tanh(self.layer(images))
        return images.flatten(1)

    def forward(self, images):
        return self.features(images) @ self.head


def true_fisher(network, images):
    """Mean of jacobian' jacobian: the Fisher matrix of a normal distribution about the outputs."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    jacobians = jacrev(lambda values: functional_call(network, values, (images,)))(weights)
    jacobian = torch.cat([jacobians[name].flatten(2) for name in weights], 2)
    return torch.einsum("nck,ncl->kl", jacobian, jacobian) / len(images)


def convolution(**settings):
    return nn.Conv2d(16, 16, 3, bias=False, **settings)


CASES = [("convolution", Network(convolution(), IMAGE), IMAGE, None)]
CASES += [("stride 2, dilation 2", Network(convolution(stride=2, dilation=2, padding=2), IMAGE), IMAGE, None)]
CASES += [(f"{groups} groups", Network(convolution(groups=groups), IMAGE), IMAGE, "size") for groups in (2, 16)]
CASES += [(f"padding {mode}", Network(convolution(padding=1, padding_mode=mode), IMAGE), IMAGE, "entries") for mode in ("reflect", "circular")]
for eps, what in ((1e-5, None), (1e-3, "entries")):
    norm = nn.BatchNorm2d(16, eps=eps)
    norm.running_var.fill_(0.01)
    CASES += [(f"batch norm, eps {eps:g}", Network(norm, IMAGE), IMAGE, what)]
CASES += [(f"linear layer, {passes} x", Network(nn.Linear(16, 16), (16,), passes), (16,), what) for passes, what in ((1, None), (2, "entries"))]
for words, network, shape, wrong in CASES:
    network.eval()
    images = torch.randn(32, *shape)
    loader = DataLoader(TensorDataset(images, torch.zeros(32)), batch_size=16)
    found, wanted = FIM(network, loader, PMatDense, variant="regression").to_torch(), true_fisher(network, images)
    same = found.shape == wanted.shape
    apart = f", largest error {float(abs(found - wanted).max() / wanted.max()):.3f} of the largest entry" if same else ""
    print(f"{words}: {len(found)} ({len(wanted)}) weights, trace {found.trace():.3f} ({wanted.trace():.3f}){apart}")
    assert same == (wrong != "size"), "the behaviour has changed"
    assert not same or bool(abs(found - wanted).max() > 0.02 * wanted.max()) == (wrong == "entries"), "the behaviour has changed"
    assert "16 groups" not in words or found.trace() > 8 * wanted.trace(), "the behaviour has changed"

network = Network(nn.Linear(16, 16), (16,))
images = torch.randn(30, 16)
for dropped in (False, True):
    loader = DataLoader(TensorDataset(images, torch.zeros(30)), batch_size=16, drop_last=dropped)
    found, wanted = FIM(network, loader, PMatDense, variant="regression").to_torch(), true_fisher(network, images[:16] if dropped else images)
    ratio = float(found.trace() / wanted.trace())
    print(f"30 images in batches of 16, drop_last={dropped}: trace by that of the images used {ratio:.3f}")
    assert abs(ratio - (16 / 30 if dropped else 1)) < 1e-4, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
