#!/usr/bin/env bash
# lightly 1.6.0: the EMP-SSL loss collapses embeddings, the CO2 regulariser has no gradient, PMSN takes its divergence the other way round.
#
# Behaviour: EMP-SSL maximises the coding rate and the similarity of views; `EMPSSLLoss` adds the coding rate with a plus, so training
# lowers it: images in one direction cost least. `CO2Regularizer` returns a copy without a graph: whatever its weight, a sum with
# another loss trains as that loss alone (torch warns of copying a tensor, in general words). `PMSNLoss` and `PMSNCustomLoss` are
# documented as KL(mean anchor probabilities, target) and compute KL(target, mean): with an even target they are not `MSNLoss`, and the
# penalty of an unused prototype has no bound. Nothing is said.
# Guess before: losses equal their equations; minimising them does what their papers say; each has a gradient.
# Seen (lightly 1.6.0, torch 2.14.1, Python 3.11, Linux x86-64):
#   EMP-SSL, views alike: images in all directions cost -192.83, images in one direction -198.14
#   EMP-SSL, 32 images, 8 dimensions: effective rank before training 7.92, after 3.90; with the coding rate subtracted 8.00
#   CO2 of weight 1: value 6.40, gradient none; the sum's gradient differs from that of the loss alone by 0.0
#   CO2 of weight 1000: value 6400.77, gradient none; the sum's gradient differs from that of the loss alone by 0.0
#   mean 0.98, 0.01, 0.01, even target: PMSN 1.978, KL(mean, target) 0.987, KL(target, mean) 1.978, MSN 0.987
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 tqdm==4.70.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps lightly==1.6.0
cat > "$folder/look.py" <<'PY'
import torch
from lightly.loss import EMPSSLLoss, MSNLoss, NegativeCosineSimilarity, PMSNCustomLoss
from lightly.loss.emp_ssl_loss import invariance_loss, tcr_loss
from lightly.loss.regularizer import CO2Regularizer
from torch.nn.functional import normalize

VIEWS, IMAGES, DIMENSIONS = 4, 32, 8


def effective_rank(views):
    """Exponential of the entropy of the singular values of all embeddings."""
    shares = torch.linalg.svdvals(normalize(views, dim=-1).flatten(0, 1).detach())
    shares = shares / shares.sum()
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def trained(loss):
    """Effective rank of free embeddings before and after training."""
    torch.manual_seed(0)
    views = torch.randn(VIEWS, IMAGES, DIMENSIONS, requires_grad=True)
    before, steps = effective_rank(views), torch.optim.Adam([views], lr=0.05)
    for _ in range(300):
        steps.zero_grad()
        loss(list(normalize(views, dim=-1))).backward()
        steps.step()
    return before, effective_rank(views)


def documented(views):
    z = torch.stack(views)
    return -tcr_loss(z, eps=0.2) + invariance_loss(z)


torch.manual_seed(0)
spread = normalize(torch.eye(DIMENSIONS).repeat(IMAGES // DIMENSIONS, 1), dim=-1)
costs = [float(EMPSSLLoss()([images] * VIEWS)) for images in (spread, spread[:1].expand(IMAGES, -1))]
print("EMP-SSL, views alike: images in all directions cost {:.2f}, images in one direction {:.2f}".format(*costs))
assert costs[0] - costs[1] > 5, "the behaviour has changed"
before, after = trained(EMPSSLLoss(inv_coef=1.0))
wanted = trained(documented)[1]
print(f"EMP-SSL, {IMAGES} images, {DIMENSIONS} dimensions: effective rank before training {before:.2f}, after {after:.2f};", end=" ")
print(f"with the coding rate subtracted {wanted:.2f}")
assert before > 7.5 and after < 5 and wanted > 7.9, "the behaviour has changed"

torch.manual_seed(0)
pair = [torch.randn(8, 16, requires_grad=True) for _ in range(2)]
loss = NegativeCosineSimilarity()
single = torch.autograd.grad(loss(*pair), pair)
for weight in (1, 1000):
    value = CO2Regularizer(alpha=weight)(*pair)
    both = torch.autograd.grad(loss(*pair) + value, pair)
    apart = max(float((one - other).abs().max()) for one, other in zip(single, both))
    words = "some" if value.requires_grad else "none"
    print(f"CO2 of weight {weight}: value {float(value):.2f}, gradient {words}; the sum's gradient", end=" ")
    print(f"differs from that of the loss alone by {apart}")
    assert value > 1 and words == "none" and apart == 0, "the behaviour has changed"

mean, even = torch.tensor([0.98, 0.01, 0.01]), torch.full((3,), 1 / 3)
found = float(PMSNCustomLoss(lambda _: even).regularization_loss(mean))
forward, backward = (float((one * (one / other).log()).sum()) for one, other in ((mean, even), (even, mean)))
msn = float(MSNLoss().regularization_loss(mean))
print(f"mean 0.98, 0.01, 0.01, even target: PMSN {found:.3f}, KL(mean, target) {forward:.3f},", end=" ")
print(f"KL(target, mean) {backward:.3f}, MSN {msn:.3f}")
assert abs(found - backward) < 1e-5 and abs(msn - forward) < 1e-5 and found > 1.5 * msn, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
