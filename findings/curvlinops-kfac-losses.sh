#!/usr/bin/env bash
# curvlinops 3.0.1: KFAC and EKFAC leave out class weights and `ignore_index`, and shrink depthwise convolutions by their channels.
#
# Behaviour: `KFACLinearOperator` and `EKFACLinearOperator` take `nn.CrossEntropyLoss` with weights of classes and with an
# `ignore_index`, and compute the curvature of the loss without them; `GGNLinearOperator` of the same arguments has them. Patches of a
# grouped convolution are averaged over its groups before they are squared, so the patches of groups cancel: the curvature of a depthwise
# convolution comes out about as many times too small as it has channels. Nothing is said. Laplace approximations by laplace-torch
# ("kron") rest on it.
# Guess before: KFAC of a linear layer and one image is exactly the layer's GGN for each supported loss; EKFAC's diagonal is exact, so its
# trace is that of the GGN, for each convolution.
# Seen (curvlinops 3.0.1, torch 2.14.1, Python 3.11, Linux x86-64), norm of a linear layer's KFAC for one image, by that of its GGN:
#   no weights: GGN 1.00, KFAC 1.00
#   weight 5 of the image's class: GGN 1.00, KFAC 0.20
#   weight 0.1 of the image's class: GGN 1.00, KFAC 10.00
#   label smoothing: GGN 1.00, KFAC 1.00
# One ignored image and one that counts, traces by the true one:
#   one ignored: GGN 1.00, KFAC 5.95, EKFAC 5.69
# Traces of a convolution of 16 channels by the true one, 64 images of independent pixels:
#   1 group: GGN 1.00, EKFAC 1.00
#   2 groups: GGN 1.00, EKFAC 0.48
#   4 groups: GGN 1.00, EKFAC 0.24
#   16 groups: GGN 1.00, EKFAC 0.06
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 curvlinops-for-pytorch==3.0.1
cat > "$folder/look.py" <<'PY'
import torch
from curvlinops import EKFACLinearOperator, GGNLinearOperator, KFACLinearOperator
from torch import nn
from torch.func import functional_call, jacrev

torch.set_default_dtype(torch.float64)


def true_ggn(network, images, loss, targets):
    """Jacobian' Hessian Jacobian of the loss, by automatic differentiation alone."""
    weights = dict(network.named_parameters())
    jacobians = jacrev(lambda values: functional_call(network, values, (images,)).flatten())(weights)
    jacobian = torch.cat([jacobians[name].flatten(1) for name in weights], 1)
    outputs = network(images).detach()
    hessian = torch.autograd.functional.hessian(lambda flat: loss(flat.view_as(outputs), targets), outputs.flatten())
    return jacobian.T @ hessian @ jacobian


def dense(operator, network, images, loss, targets, **settings):
    weights = [weight for weight in network.parameters()]
    matrix = operator(network, loss, weights, [(images, targets)], check_deterministic=False, **settings)
    return matrix @ torch.eye(matrix.shape[1])


TYPE = {"fisher_type": "type-2"}  # the GGN; nothing is sampled
CASES = {"no weights": {}, "weight 5 of the image's class": {"weight": torch.tensor([1.0, 5.0, 2.0])}}
CASES["weight 0.1 of the image's class"] = {"weight": torch.tensor([1.0, 0.1, 2.0])}
CASES["label smoothing"] = {"label_smoothing": 0.3}
torch.manual_seed(0)
linear, image, label = nn.Linear(12, 3, bias=False), torch.randn(1, 12), torch.tensor([1])
for words, settings in CASES.items():
    loss = nn.CrossEntropyLoss(reduction="sum", **settings)
    given = (linear, image, loss, label)
    wanted = true_ggn(*given).norm()
    ggn, kfac = dense(GGNLinearOperator, *given).norm() / wanted, dense(KFACLinearOperator, *given, **TYPE).norm() / wanted
    print(f"{words}: GGN {ggn:.2f}, KFAC {kfac:.2f}")
    weight = float(loss.weight[1]) if "weight" in settings else 1.0
    assert abs(ggn - 1) < 1e-9 and abs(kfac * weight - 1) < 1e-9, "the behaviour has changed"

images = torch.randn(2, 12)
given = (linear, images, nn.CrossEntropyLoss(reduction="sum", ignore_index=0), torch.tensor([0, 1]))
wanted = true_ggn(*given).trace()
ggn = dense(GGNLinearOperator, *given).trace() / wanted
kfac, ekfac = (dense(operator, *given, **TYPE).trace() / wanted for operator in (KFACLinearOperator, EKFACLinearOperator))
both = true_ggn(linear, images, nn.CrossEntropyLoss(reduction="sum"), torch.tensor([0, 1])).trace() / wanted
print(f"one ignored: GGN {ggn:.2f}, KFAC {kfac:.2f}, EKFAC {ekfac:.2f}")
assert abs(ggn - 1) < 1e-9 and kfac > 1.3 and abs(ekfac - both) < 1e-9, "the behaviour has changed"

images, labels = torch.randn(64, 16, 5, 5), torch.randint(0, 3, (64,))
for groups in (1, 2, 4, 16):
    convolution, head = nn.Conv2d(16, 16, 3, groups=groups, bias=False), nn.Linear(16, 3)
    head.requires_grad_(False)
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    rows = {}
    for operator, settings in ((GGNLinearOperator, {}), (EKFACLinearOperator, TYPE)):
        matrix = operator(network, nn.CrossEntropyLoss(), [convolution.weight], [(images, labels)], check_deterministic=False, **settings)
        rows[operator] = (matrix @ torch.eye(matrix.shape[1])).trace()
    fixed = {name: value for name, value in network.named_parameters() if name != "0.weight"}
    outputs = network(images).detach()
    logits = jacrev(lambda weight: functional_call(network, {"0.weight": weight, **fixed}, (images,)))
    jacobian = logits(convolution.weight.detach()).flatten(2)
    chances = outputs.softmax(1)
    hessians = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None]
    wanted = torch.einsum("ncp,nck,nkp->", jacobian, hessians, jacobian) / len(images)
    ggn, ekfac = rows[GGNLinearOperator] / wanted, rows[EKFACLinearOperator] / wanted
    print(f"{groups} group{'s' * (groups > 1)}: GGN {ggn:.2f}, EKFAC {ekfac:.2f}")
    assert abs(ggn - 1) < 1e-9 and 0.8 < ekfac * groups < 1.25, "the behaviour has changed"
    assert groups > 1 or abs(ekfac - 1) < 1e-9, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
