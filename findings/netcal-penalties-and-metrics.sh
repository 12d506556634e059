#!/usr/bin/env bash
# netcal 1.4.0: the confidence penalty makes a network surer, and three metrics of calibration are other numbers than documented.
#
# Behaviour: `ConfidencePenalty` adds the entropy of the predictions to the loss. It has to subtract it, as `confidence_penalty` of the same
# package does: minimising the loss drives each prediction to certainty. `DCAPenalty` drops its `weight`. `MMCE` of binary confidences takes
# the probability of class 1 for that of the class predicted, so a right "0" at 0.1 counts as an error of 0.9; with two columns it is right.
# `QuantileLoss` documents the pinball loss of the quantile q and takes a bound of the two-sided interval of coverage q. Covariances of
# shape (n, 1, 1) are taken for standard deviations. Nothing is said. ECE, ACE, MCE and temperature scaling agreed with plain formulas.
# Guess before: its metrics agree with plain formulas, temperature scaling minimises the NLL.
# Seen (netcal 1.4.0, torch 2.14.1, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   largest probability of 64 predictions, mean: 0.44 before, 1.00 after minimising ConfidencePenalty, 0.20 after subtracting the entropy
#   penalty of even predictions of 5 classes: ConfidencePenalty 1.61, confidence_penalty -1.61
#   DCAPenalty, weight 1 and 10: 0.275 0.275
#   MMCE of calibrated binary confidences: 0.212, as two columns 0.005
#   quantile loss of exact normal predictions, q = 0.1: 0.073, pinball loss 0.175
#   quantile loss of exact normal predictions, q = 0.5: 0.233, pinball loss 0.399
#   quantile loss of exact normal predictions, q = 0.9: 0.124, pinball loss 0.173
#   NLL, standard deviation 2: 1.736, covariance ((4)): 2.336
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check netcal==1.4.0 torch==2.14.1 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
import torch
from netcal.metrics import MMCE, NLL, QuantileLoss
from netcal.regularization import ConfidencePenalty, DCAPenalty, confidence_penalty
from scipy import stats
from sklearn.metrics import mean_pinball_loss


def entropy(logits):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def surest(penalty, steps):
    """Mean largest probability of 64 predictions after gradient steps down the penalty."""
    torch.manual_seed(0)
    logits = torch.randn(64, 5, requires_grad=True)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(penalty(logits), logits)
        with torch.no_grad():
            logits -= 64 * gradient
    return float(logits.softmax(1).max(1).values.mean())


penalty = ConfidencePenalty(weight=1.0, reduction="batchmean")
before, after, wanted = surest(penalty, 0), surest(penalty, 500), surest(lambda logits: -entropy(logits), 500)
print(f"largest probability of 64 predictions, mean: {before:.2f} before, {after:.2f} after minimising ConfidencePenalty, ", end="")
print(f"{wanted:.2f} after subtracting the entropy")
assert after > 0.99 and wanted < 0.21, "the behaviour has changed"
even = torch.zeros(3, 5)
signs = float(penalty(even)), float(confidence_penalty(even.softmax(1).numpy(), 1.0))
print(f"penalty of even predictions of 5 classes: ConfidencePenalty {signs[0]:.2f}, confidence_penalty {signs[1]:.2f}")
assert signs[0] > 1.6 and signs[1] < -1.6, "the behaviour has changed"
torch.manual_seed(1)
logits, labels = torch.randn(64, 5), torch.randint(0, 5, (64,))
weighted = [float(DCAPenalty(weight)(logits, labels)) for weight in (1.0, 10.0)]
print(f"DCAPenalty, weight 1 and 10: {weighted[0]:.3f} {weighted[1]:.3f}")
assert weighted[0] == weighted[1] > 0, "the behaviour has changed"

rng = np.random.default_rng(0)
chances = rng.random(4000)
labels = (rng.random(4000) < chances).astype(int)
one, two = MMCE().measure(chances, labels), MMCE().measure(np.column_stack([1 - chances, chances]), labels)
print(f"MMCE of calibrated binary confidences: {one:.3f}, as two columns {two:.3f}")
assert one > 0.15 and two < 0.02, "the behaviour has changed"

means, spreads = rng.normal(size=4000), np.ones(4000)
targets = means + rng.normal(size=4000)
for level in (0.1, 0.5, 0.9):
    found = QuantileLoss().measure((means, spreads), targets, np.array([level]))
    wanted = mean_pinball_loss(targets, means + stats.norm.ppf(level), alpha=level)
    print(f"quantile loss of exact normal predictions, q = {level}: {found:.3f}, pinball loss {wanted:.3f}")
    two_sided = mean_pinball_loss(abs(targets - means), np.full(4000, stats.norm.ppf((1 + level) / 2)), alpha=level)
    assert abs(found - two_sided) < 1e-9 and found < 0.8 * wanted, "the behaviour has changed"
right = -stats.norm(means, 2).logpdf(targets).mean()
by_spread = float(NLL().measure((means, 2 * spreads), targets)[0])
by_covariance = float(NLL().measure((means[:, None], np.full((4000, 1, 1), 4.0)), targets[:, None])[0])
print(f"NLL, standard deviation 2: {by_spread:.3f}, covariance ((4)): {by_covariance:.3f}")
assert abs(by_spread - right) < 1e-6 and by_covariance > right + 0.5, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
