#!/usr/bin/env bash
# BackPACK 1.7.1: norms of gradients of grouped convolutions are wrong, and padding "same" or circular gives those of another layer.
#
# Behaviour: `BatchL2Grad`, the squared norm of the gradient of each sample, mixes the groups of a grouped convolution (plain and
# transposed), and is far from the squared norm of what `BatchGrad` returns beside it. With `padding="same"` `BatchGrad`,
# `SumGradSquared` and `Variance` read the word as no padding and return numbers of the right shape: their sum is not
# `.grad`. With `padding_mode` other than zeros they, and the diagonals of the generalised Gauss-Newton and Hessian
# matrices, are those of zero padding. Each wrong number comes without a word. Ungrouped, zero-padded layers are right.
# Guess before: the gradients of the samples sum to `.grad`, and their squared norms are those that BatchL2Grad returns.
# Seen (BackPACK 1.7.1, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), errors of four samples relative to the largest:
#   plain: BatchGrad 0.00, SumGradSquared 0.00, BatchL2Grad 0.00
#   two groups: BatchGrad 0.00, SumGradSquared 0.00, BatchL2Grad 1.05
#   depthwise: BatchGrad 0.00, SumGradSquared 0.00, BatchL2Grad 4.55
#   transposed: BatchGrad 0.00, SumGradSquared 0.00, BatchL2Grad 0.00
#   transposed, two groups: BatchGrad 0.00, SumGradSquared 0.00, BatchL2Grad 1.14
#   padding "same": BatchGrad 1.20, SumGradSquared 0.85, BatchL2Grad raises
#   circular: BatchGrad 0.47, SumGradSquared 0.51, BatchL2Grad 0.25
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 einops==0.8.2 \
    unfoldNd==0.2.3 backpack-for-pytorch==1.7.1
cat > "$folder/look.py" <<'PY'
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, BatchL2Grad, SumGradSquared
from torch import nn

torch.set_default_dtype(torch.float64)
LAYERS = {
    "plain": (nn.Conv2d, {"padding": 1}, set()),
    "two groups": (nn.Conv2d, {"groups": 2, "padding": 1}, {"BatchL2Grad"}),
    "depthwise": (nn.Conv2d, {"groups": 4, "padding": 1}, {"BatchL2Grad"}),
    "transposed": (nn.ConvTranspose2d, {}, set()),
    "transposed, two groups": (nn.ConvTranspose2d, {"groups": 2}, {"BatchL2Grad"}),
    'padding "same"': (nn.Conv2d, {"padding": "same"}, {"BatchGrad", "SumGradSquared", "BatchL2Grad"}),
    "circular": (nn.Conv2d, {"padding": 1, "padding_mode": "circular"}, {"BatchGrad", "SumGradSquared", "BatchL2Grad"}),
}


def far(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


for title, (kind, options, wrong) in LAYERS.items():
    torch.manual_seed(0)
    layer = kind(4, 4, 3, **options)
    images = torch.randn(4, 4, 6, 7)
    network = nn.Sequential(layer, nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(3))
    network(images)
    labels = torch.tensor([0, 1, 2, 0])
    # the gradients by torch, one sample at a time, before BackPACK hooks into the layers
    losses = [nn.functional.cross_entropy(network(images[i : i + 1]), labels[i : i + 1]) / 4 for i in range(4)]
    wanted = torch.stack([torch.autograd.grad(loss, layer.weight)[0] for loss in losses])
    truths = {"BatchGrad": wanted, "SumGradSquared": wanted.square().sum(0), "BatchL2Grad": wanted.flatten(1).square().sum(1)}
    extend(network)
    loss = extend(nn.CrossEntropyLoss())
    told = []
    for extension, attribute in ((BatchGrad, "grad_batch"), (SumGradSquared, "sum_grad_squared"), (BatchL2Grad, "batch_l2")):
        name = extension.__name__
        network.zero_grad()
        try:
            with backpack(extension()):
                loss(network(images), labels).backward()
        except TypeError:
            told.append(f"{name} raises")
            assert (title, name) == ('padding "same"', "BatchL2Grad"), "the behaviour has changed"
            continue
        assert far(layer.weight.grad, wanted.sum(0)) < 1e-9, "the behaviour has changed"
        error = far(getattr(layer.weight, attribute), truths[name])
        told.append(f"{name} {error:.2f}")
        assert (error > 0.1) if name in wrong else (error < 1e-9), "the behaviour has changed"
    print(f"{title}: {', '.join(told)}")
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
