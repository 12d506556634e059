#!/usr/bin/env bash
# torchmetrics 1.9.0: binary metrics of logits depend on the size of the batches, and AUROC on how large the logits are.
#
# Behaviour: whether predictions are logits is asked anew in each `update`: where one of them lies outside 0 to 1 the batch goes
# through a sigmoid, else it is taken for probabilities. A small batch (the last one of a pass, a batch of one image) whose
# logits happen to lie in 0 to 1 is cut at 0.5 instead of at 0; AUROC ranks its raw numbers among the sigmoids of the others. The
# sigmoid is taken in float32, so logits above 17 become equal, which moves the AUROC of a confident network. Nothing is said.
# Probabilities are right in batches of any size. By hand: accuracy at a logit of 0, AUROC by counting pairs.
# Guess before: the same predictions give the same figure, in whatever batches.
# Seen (torchmetrics 1.9.0, torch 2.14.1, Python 3.11, Linux x86-64), 512 normal logits:
#   by hand: accuracy 0.738, AUROC 0.809
#   logits, batches of 512: accuracy 0.738, AUROC 0.809, calibration error 0.060
#   logits, batches of 8: accuracy 0.738, AUROC 0.809, calibration error 0.060
#   logits, batches of 2: accuracy 0.725, AUROC 0.791, calibration error 0.053
#   logits, batches of 1: accuracy 0.684, AUROC 0.740, calibration error 0.075
#   probabilities, batches of 1: accuracy 0.738, AUROC 0.809
#   logits 30 times as large, one batch: AUROC 0.798
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torchmetrics==1.9.0
cat > "$folder/look.py" <<'PY'
import torch
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryCalibrationError

torch.manual_seed(0)
logits = torch.randn(512)
labels = (logits + torch.randn(512) > 0).long()


def by_batches(metric, size, values):
    for part, truth in zip(values.split(size), labels.split(size), strict=True):
        metric.update(part, truth)
    return float(metric.compute())


share = float(((logits > 0).long() == labels).float().mean())
positive, negative = logits[labels == 1], logits[labels == 0]
area = float((positive[:, None] > negative[None]).float().mean())
print(f"by hand: accuracy {share:.3f}, AUROC {area:.3f}")
seen = {}
for size in (512, 8, 2, 1):
    seen[size] = [by_batches(metric(), size, logits) for metric in (BinaryAccuracy, BinaryAUROC, BinaryCalibrationError)]
    print("logits, batches of {}: accuracy {:.3f}, AUROC {:.3f}, calibration error {:.3f}".format(size, *seen[size]))
probabilities = [by_batches(metric(), 1, logits.sigmoid()) for metric in (BinaryAccuracy, BinaryAUROC)]
print("probabilities, batches of 1: accuracy {:.3f}, AUROC {:.3f}".format(*probabilities))
sure = by_batches(BinaryAUROC(), 512, 30 * logits)
print(f"logits 30 times as large, one batch: AUROC {sure:.3f}")
assert abs(seen[512][0] - share) < 1e-6 and abs(seen[512][1] - area) < 1e-6, "the behaviour has changed"
assert abs(probabilities[0] - share) < 1e-6 and abs(probabilities[1] - area) < 1e-6, "the behaviour has changed"
assert seen[1][0] < share - 0.05 and seen[2][0] < share - 0.01 and seen[1][1] < area - 0.02, "the behaviour has changed"
assert abs(sure - area) > 1e-3, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
