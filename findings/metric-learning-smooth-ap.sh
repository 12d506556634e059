#!/usr/bin/env bash
# pytorch-metric-learning 2.9.0: SmoothAPLoss takes neighbours in the batch for positives, not rows of one class.
#
# Behaviour: the loss cuts the batch into equal runs of rows and takes the rows of a run for the positives of each other. A run
# is to be a class, but the number of runs is the number of rows of a class, not of classes: with 4 classes of 3 rows it makes
# 3 runs of 4. It is right only where both numbers are the same and the rows of a class stand together. Elsewhere classes that
# are told apart perfectly get a loss of a third and more, and training brings rows together that are of different classes.
# Labels are only counted. The documentation says that positives come from the labels and that classes may stand in
# any order; that is not so in 2.9.0, the newest release.
# Guess before: the loss is that of its documented formula, and the order of the rows does not matter.
# Seen (pytorch-metric-learning 2.9.0, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   3 classes of 3: tight clusters 0.000, shuffled 0.474 (formula 0.000, 0.000), noise 0.222 (0.222)
#   4 classes of 4: tight clusters 0.000, shuffled 0.574 (formula 0.000, 0.000), noise 0.328 (0.328)
#   4 classes of 3: tight clusters 0.297, shuffled 0.594 (formula 0.000, 0.000), noise 0.331 (0.381)
#   3 classes of 4: tight clusters 0.372, shuffled 0.607 (formula 0.000, 0.000), noise 0.321 (0.398)
#   8 classes of 2: tight clusters 0.312, shuffled 0.355 (formula 0.000, 0.000), noise 0.324 (0.255)
#   2 classes of 8: tight clusters 0.667, shuffled 0.738 (formula 0.000, 0.000), noise 0.320 (0.361)
#   nearest row of the same class after 300 steps: 4 classes of 4 1.00, 8 classes of 4 0.47
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scikit-learn==1.9.1 \
    pytorch-metric-learning==2.9.0
cat > "$folder/look.py" <<'PY'
import torch
from pytorch_metric_learning.losses import SmoothAPLoss
from torch.nn.functional import normalize

torch.set_default_dtype(torch.float64)
WIDTH = 0.01


def formula(embeddings, labels):
    """The loss of Brown et al. (2020), equation 8, with the query among its positives as the authors' code has it."""
    similar = normalize(embeddings) @ normalize(embeddings).T
    precisions = []
    for query in range(len(labels)):
        before = torch.sigmoid((similar[query][None] - similar[query][:, None]) / WIDTH).fill_diagonal_(0)
        positive = labels == labels[query]
        ratio = (1 + before[:, positive].sum(1)) / (1 + before.sum(1))
        precisions.append(ratio[positive].mean())
    return float(1 - torch.stack(precisions).mean())


loss = SmoothAPLoss(temperature=WIDTH)
for classes, rows in ((3, 3), (4, 4), (4, 3), (3, 4), (8, 2), (2, 8)):
    torch.manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(rows)
    order = torch.randperm(len(labels))
    clusters = torch.eye(classes)[labels] + 1e-3 * torch.randn(len(labels), classes)
    noise = torch.randn(len(labels), 8)
    told = [float(loss(clusters, labels)), float(loss(clusters[order], labels[order])), float(loss(noise, labels))]
    wanted = [formula(clusters, labels), formula(clusters[order], labels[order]), formula(noise, labels)]
    print(
        f"{classes} classes of {rows}: tight clusters {told[0]:.3f}, shuffled {told[1]:.3f} (formula {wanted[0]:.3f}, {wanted[1]:.3f}), "
        f"noise {told[2]:.3f} ({wanted[2]:.3f})"
    )
    assert max(wanted[:2]) < 1e-9 and told[1] > 0.2, "the behaviour has changed"
    if classes == rows:
        assert told[0] < 1e-9 and abs(told[2] - wanted[2]) < 1e-9, "the behaviour has changed"
    else:
        assert told[0] > 0.2 and abs(told[2] - wanted[2]) > 0.005, "the behaviour has changed"


def nearest(classes, rows):
    """The share of rows whose nearest other row is of their class, after 300 steps on free embeddings."""
    torch.manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(rows)
    embeddings = torch.nn.Parameter(torch.randn(len(labels), 16))
    optimizer = torch.optim.Adam([embeddings], 0.01)
    wide = SmoothAPLoss(temperature=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        wide(embeddings, labels).backward()
        optimizer.step()
    similar = (normalize(embeddings) @ normalize(embeddings).T).detach().fill_diagonal_(-2)
    return float((labels[similar.argmax(1)] == labels).double().mean())


shares = [nearest(classes, rows) for classes, rows in ((4, 4), (8, 4))]
print(f"nearest row of the same class after 300 steps: 4 classes of 4 {shares[0]:.2f}, 8 classes of 4 {shares[1]:.2f}")
assert shares[0] > 0.95 and shares[1] < 0.9, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
