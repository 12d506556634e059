#!/usr/bin/env bash
# confidenceinterval 1.0.5: intervals of macro F1 hardly depend on the accuracy, those of macro precision and recall are off as well.
#
# Behaviour: the package takes Takahashi's variance of the macro F1, a sum of F1_i (FP_i + FN_i) / s_i^2 (F1_i / 2 + (FP_i + FN_i) / s_i) and
# of products of two classes, but adds where two factors are multiplied, and puts counts in for shares: what is left is near 1 / (classes x
# images) whatever the classifier does. The docstring of macro precision and recall says d' (diag(p) - p p') d; the code takes
# `p * p.transpose()` of a flat p, which are squares and no outer product. Of a classifier that is right for 98 % the interval of F1
# reaches beyond 1; with 100 classes two samples in three miss the true value. Nothing is said. Micro averages and the bootstrap are right.
# Guess before: 95 % intervals hold the true value in about 95 % of samples.
# Seen (confidenceinterval 1.0.5, NumPy 2.4.6, SciPy 1.17.1, scikit-learn 1.9.1, Python 3.11, Linux x86-64), standard error as told, as of
# 200 samples, and the share of samples whose 95 % interval holds the true value:
#   10 classes, 98 % right: precision 0.0058, 0.0048, 0.95; recall 0.0058, 0.0048, 0.97; F1 0.0101, 0.0048, 1.00, by the paper 0.0044
#   10 classes, 73 % right: precision 0.0137, 0.0148, 0.94; recall 0.0137, 0.0148, 0.93; F1 0.0116, 0.0148, 0.88, by the paper 0.0140
#   100 classes, 70 % right: F1 0.0017, 0.0064, 0.34, by the paper 0.0065
#   4 unequal classes, 78 % right: precision 0.0118, 0.0165, 0.84; recall 0.0251, 0.0196, 0.99; F1 0.0186, 0.0170, 0.97, by the paper 0.0190
#   highest end of an interval of F1, 10 classes, 98 % right: 1.013
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check confidenceinterval==1.0.5 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from confidenceinterval import f1_score, precision_score, recall_score

rng = np.random.default_rng(0)
SCORES = {"precision": precision_score, "recall": recall_score, "F1": f1_score}
# name of the setting, shares of the classes, share of images that are guessed right for sure, images
CASES = [
    ("10 classes, 98 % right", np.full(10, 0.1), 0.978, 1000),
    ("10 classes, 73 % right", np.full(10, 0.1), 0.7, 1000),
    ("100 classes, 70 % right", np.full(100, 0.01), 0.7, 5000),
    ("4 unequal classes, 78 % right", np.array([0.7, 0.15, 0.1, 0.05]), 0.7, 1000),
]
found = {}
for words, shares, sure, images in CASES:
    classes = len(shares)
    joint = np.diag(shares) * sure + np.outer(shares, np.full(classes, 1 - sure) / classes)
    hits = np.diag(joint)
    true = {
        "precision": np.mean(hits / joint.sum(0)),
        "recall": np.mean(hits / joint.sum(1)),
        "F1": np.mean(2 * hits / (joint.sum(0) + joint.sum(1))),
    }
    # the intervals of precision and recall need 10,000 x 10,000 numbers for 100 classes
    drawn = {name: [] for name in SCORES if classes <= 10 or name == "F1"}
    for _ in range(200):
        labels = rng.choice(classes, images, p=shares)
        guessed = np.where(rng.random(images) < sure, labels, rng.integers(0, classes, images))
        for name in drawn:
            score = SCORES[name]
            value, (low, high) = score(labels, guessed, average="macro")
            drawn[name].append((value, low, high))
    joined, cross = joint.sum(0) + joint.sum(1), joint - np.diag(hits)
    single, missed = 2 * hits / joined, joined - 2 * hits
    variance = (single * missed / joined**2 * (single / 2 + missed / joined)).sum()
    variance += (cross * np.outer(single, single) / np.outer(joined, joined)).sum()
    paper = np.sqrt(2 * variance / images) / classes
    line = []
    for name, rows in drawn.items():
        value, low, high = np.array(rows).T
        told, error = np.mean(high - low) / 3.92, value.std()
        covered = np.mean((low < true[name]) & (true[name] < high))
        found[words, name] = told / error, covered, high.max()
        line.append(f"{name} {told:.4f}, {error:.4f}, {covered:.2f}")
    print(f"{words}: " + "; ".join(line) + f", by the paper {paper:.4f}")
    assert abs(np.std([value for value, *_ in drawn["F1"]]) / paper - 1) < 0.2, "the example is wrong"
sure, some, many, unequal = [words for words, *_ in CASES]
print(f"highest end of an interval of F1, {sure}: {found[sure, 'F1'][2]:.3f}")
assert found[sure, "F1"][0] > 1.8 and found[sure, "F1"][2] > 1, "the behaviour has changed"
assert found[many, "F1"][0] < 0.4 and found[many, "F1"][1] < 0.6, "the behaviour has changed"
assert found[unequal, "precision"][0] < 0.85 and found[unequal, "precision"][1] < 0.92, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
