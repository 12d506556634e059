#!/usr/bin/env bash
# Opacus 1.6.0: gradients of convolutions that pad by reflection, repetition or around the edge are those of zero padding.
#
# Behaviour: Opacus computes the gradient of each sample itself. For convolutions it unfolds the input and pads it with zeros,
# whatever the layer's `padding_mode`: weights get the gradient of another layer than the one that ran, in one, two and three
# axes. The sum over the batch, which is what a step without noise and clipping uses, is wrong too. `force_functorch=True`
# is right. `Embedding(padding_idx=...)` is treated alike: its padding row, which has no gradient in torch, is trained.
# `ModuleValidator` finds nothing to object to, and nothing is said.
# Guess before: the gradients of the samples are those of a loop, and without noise and clipping a step is torch's step.
# Seen (Opacus 1.6.0, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   Conv1d, largest error of a gradient: zeros 0.00, circular 0.31, reflect 0.38, replicate 0.26
#   Conv2d, largest error of a gradient: zeros 0.00, circular 0.45, reflect 0.46, replicate 0.56
#   Conv3d, largest error of a gradient: zeros 0.00, circular 0.58, reflect 0.53, replicate 0.52
#   gradient of the padding row of an embedding: torch 0.00, Opacus 8.66
#   step without noise and clipping, zeros: away from torch's step by 0.00 of it
#   step without noise and clipping, circular: away from torch's step by 0.41 of it
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scipy==1.17.1 opacus==1.6.0
cat > "$folder/look.py" <<'PY'
import copy

import torch
from opacus import GradSampleModule, PrivacyEngine
from opacus.validators import ModuleValidator
from torch import nn

torch.set_default_dtype(torch.float64)


def error(layer, images, **options):
    """The largest error of a gradient of a sample, relative to the largest gradient that torch computes."""
    plain = copy.deepcopy(layer)
    wrapped = GradSampleModule(layer, loss_reduction="sum", **options)
    outputs = wrapped(images)
    factors = torch.randn_like(outputs)
    (outputs * factors).sum().backward()
    wanted = torch.stack(
        [torch.autograd.grad((plain(images[i : i + 1]) * factors[i]).sum(), plain.weight)[0] for i in range(len(images))]
    )
    return float((layer.weight.grad_sample - wanted).abs().max() / wanted.abs().max())


for axes, kind in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)):
    errors = {}
    for mode in ("zeros", "circular", "reflect", "replicate"):
        torch.manual_seed(0)
        layer = kind(4, 8, 3, padding=1, padding_mode=mode)
        assert not ModuleValidator.validate(layer), "the behaviour has changed"
        images = torch.randn(5, 4, *(8,) * axes)
        errors[mode] = error(copy.deepcopy(layer), images)
        assert (errors[mode] > 0.1) == (mode != "zeros"), "the behaviour has changed"
        assert error(layer, images, force_functorch=True) < 1e-9, "the behaviour has changed"
    print(f"{kind.__name__}, largest error of a gradient: {', '.join(f'{mode} {value:.2f}' for mode, value in errors.items())}")

torch.manual_seed(0)
table = nn.Embedding(6, 3, padding_idx=0)
wrapped = GradSampleModule(copy.deepcopy(table), loss_reduction="sum")
words = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
for module in (table, wrapped):
    module(words).sum().backward()
rows = [float(table.weight.grad[0].norm()), float(wrapped._module.weight.grad_sample.sum(0)[0].norm())]
print(f"gradient of the padding row of an embedding: torch {rows[0]:.2f}, Opacus {rows[1]:.2f}")
assert rows[0] == 0 and rows[1] > 1, "the behaviour has changed"

for mode in ("zeros", "circular"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    plain = copy.deepcopy(model)
    images, labels = torch.randn(16, 3, 6, 6), torch.randint(2, (16,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16)
    private, optimizer, _ = PrivacyEngine().make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), data_loader=loader, noise_multiplier=0.0, max_grad_norm=1e9,
        poisson_sampling=False,
    )
    for network, step in ((private, optimizer), (plain, torch.optim.SGD(plain.parameters(), 0.1))):
        step.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        step.step()
    torch.manual_seed(0)
    start = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode).weight
    apart = float((model[0].weight - plain[0].weight).norm() / (plain[0].weight - start).norm())
    print(f"step without noise and clipping, {mode}: away from torch's step by {apart:.2f} of it")
    assert apart > 0.1 if mode == "circular" else apart < 1e-9, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
