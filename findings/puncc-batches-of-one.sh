#!/usr/bin/env bash
# puncc 0.9.3: prediction sets of APS and RAPS hold no more classes than the batch holds images.
#
# Behaviour: `APS` and `RAPS` cap the size of a set at the number of images that are predicted together, where the number of classes was
# meant. Images that come one by one get sets of one class: sets that are to hold the true class with 90 % hold it as often as the first guess
# does. The calibration is that of the paper, and a test on one large batch shows nothing. `LAC` does not cap. `deel.puncc.metrics.iou` adds a
# pixel to each side, so in coordinates from 0 to 1 boxes that are apart overlap. Nothing is said.
# Guess before: each method covers 1 - alpha, whatever the batch; IoU is intersection over union.
# Seen (puncc 0.9.3, NumPy 1.26.4, scikit-learn 1.7.2, Python 3.11, Linux x86-64), 2000 images of ten classes, sets of 90 %:
#   LAC, batches of 1: 6.38 classes a set, 0.901 hold the true one
#   LAC, batches of 5: 6.38 classes a set, 0.901 hold the true one
#   LAC, batches of 2000: 6.38 classes a set, 0.901 hold the true one
#   APS, batches of 1: 1.00 classes a set, 0.300 hold the true one
#   APS, batches of 5: 4.98 classes a set, 0.819 hold the true one
#   APS, batches of 2000: 6.69 classes a set, 0.914 hold the true one
#   RAPS, batches of 1: 1.00 classes a set, 0.300 hold the true one
#   RAPS, batches of 5: 4.99 classes a set, 0.819 hold the true one
#   RAPS, batches of 2000: 6.70 classes a set, 0.914 hold the true one
#   IoU of two boxes that are apart, image of 1 x 1: 0.205
#   IoU of two boxes that are apart, image of 1000 x 1000: 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check puncc==0.9.3 numpy==1.26.4 scikit-learn==1.7.2 pandas==2.3.3
cat > "$folder/look.py" <<'PY'
import numpy as np
from deel.puncc.api.prediction import BasePredictor
from deel.puncc.classification import APS, LAC, RAPS
from deel.puncc.metrics import iou


class Softmax(BasePredictor):
    """The probabilities that the labels are drawn from."""

    def predict(self, X, **settings):
        return np.exp(X) / np.exp(X).sum(1, keepdims=True)


rng = np.random.default_rng(0)
np.random.seed(0)  # for the randomised sets
images = rng.normal(size=(3000, 10))
chances = Softmax(None, is_trained=True).predict(images)
labels = np.array([rng.choice(10, p=row) for row in chances])
first = float((chances[1000:].argmax(1) == labels[1000:]).mean())
print(f"the most likely class is the true one: {first:.3f}")
for method, settings in ((LAC, {}), (APS, {}), (RAPS, {"lambd": 0.001, "k_reg": 2})):
    conformal = method(Softmax(None, is_trained=True), train=False, **settings)
    conformal.fit(X_calib=images[:1000], y_calib=labels[:1000])
    for batch in (1, 5, 2000):
        sets = [one for start in range(1000, 3000, batch) for one in conformal.predict(images[start : start + batch], alpha=0.1)[1]]
        covered = float(np.mean([label in one for label, one in zip(labels[1000:], sets)]))
        sizes = [len(one) for one in sets]
        print(f"{method.__name__}, batches of {batch}: {np.mean(sizes):.2f} classes a set, {covered:.3f} hold the true one")
        if method is LAC or batch == 2000:
            assert 0.88 < covered < 0.93 and max(sizes) > 5, "the behaviour has changed"
        else:
            assert max(sizes) == batch and (batch > 1 or covered == first), "the behaviour has changed"
boxes = np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7]])
for scale in (1, 1000):
    found = float(iou(scale * boxes, scale * boxes)[0, 1])
    print(f"IoU of two boxes that are apart, image of {scale} x {scale}: {found:.3f}")
    assert (found > 0.2) if scale == 1 else (found == 0), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
