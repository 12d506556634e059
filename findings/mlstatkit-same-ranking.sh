#!/usr/bin/env bash
# MLstatkit 0.1.91: the DeLong test of two models that rank alike has p = 0.
#
# Behaviour: where the variance of the difference of the two AUCs is 0, `Delong_test` falls back on a bootstrap, whose p-value is twice the
# smaller of the shares of differences "<= 0" and "> 0". All differences are 0, so the second share, and p, is 0. This holds for a model
# against itself, for logits against their sigmoid or a softer temperature, and for two models that separate the classes wholly. z is 0
# beside it, whose own p-value is 1. Only `info` names the bootstrap. Swap two pairs of images, and the test is the usual one.
# Guess before: models that rank alike have p = 1, or NaN.
# Seen (MLstatkit 0.1.91, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64), of 60 images:
#   a model and itself: AUC 0.726 and 0.726, z 0.00, p 0.000; a permutation test of ranks 1.000
#   its logits and their sigmoid: AUC 0.726 and 0.726, z 0.00, p 0.000; a permutation test of ranks 1.000
#   temperature 1 and temperature 3: AUC 0.726 and 0.726, z 0.00, p 0.000; a permutation test of ranks 1.000
#   two that separate the classes: AUC 1.000 and 1.000, z 0.00, p 0.000; a permutation test of ranks 1.000
#   a model and one with two pairs of images swapped: AUC 0.726 and 0.732, z 1.04, p 0.299; a permutation test of ranks 0.560
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlstatkit==0.1.91 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from MLstatkit import Delong_test, Permutation_test
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)
labels = rng.integers(0, 2, 60)
logits = rng.normal(size=60) + labels
order = np.argsort(logits)
swapped = logits.copy()
for low in (10, 50):
    swapped[order[[low, low + 5]]] = swapped[order[[low + 5, low]]]


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


CASES = [
    ("a model and itself", sigmoid(logits), sigmoid(logits), True),
    ("its logits and their sigmoid", logits, sigmoid(logits), True),
    ("temperature 1 and temperature 3", sigmoid(logits), sigmoid(logits / 3), True),
    ("two that separate the classes", labels + rng.random(60) / 2, labels + rng.random(60) / 2, True),
    ("a model and one with two pairs of images swapped", logits, swapped, False),
]
for words, one, other, alike in CASES:
    z, p = Delong_test(labels, one, other, return_ci=False, return_auc=False, n_boot=500, random_state=0)
    scores = [roc_auc_score(labels, values) for values in (one, other)]
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    permuted = Permutation_test(labels, *ranks, metric_str="roc_auc", n_bootstraps=50)[2]
    print(f"{words}: AUC {scores[0]:.3f} and {scores[1]:.3f}, z {z:.2f}, p {p:.3f}; a permutation test of ranks {permuted:.3f}")
    assert (scores[0] == scores[1]) == alike, "the example is wrong"
    assert (z == 0 and p == 0 and permuted == 1) if alike else 0.1 < p < 1, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" 2> /dev/null
