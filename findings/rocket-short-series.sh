#!/usr/bin/env bash
# aeon 1.6.0, sktime 1.2.0: ROCKET kernels that are longer than the series get a dilation of 0 and see no series at all.
#
# Behaviour: a kernel of 7, 9 or 11 weights is spread by a random dilation of at most (length of the series - 1) / (weights - 1). Where
# that is below 1 it is rounded down to 0: all weights read one point, and as a kernel's weights sum to zero, both of its features are
# its bias for every series. Of series of 9 or 10 points a third of the features are constant, of 7 or 8 two thirds, of 6 or fewer
# all, and the classifier guesses. No error and no warning; aeon's MINIROCKET refuses series shorter than 9.
# Guess before: short series are refused, or the dilation is at least 1 (as with padding it could be).
# Seen (aeon 1.6.0, sktime 1.2.0, NumPy 2.3.5, scikit-learn 1.9.1, Python 3.11, Linux x86-64):
#   6 points: aeon 1.00 of the features constant, sktime 1.00
#   8 points: aeon 0.66 of the features constant, sktime 0.66
#   10 points: aeon 0.33 of the features constant, sktime 0.33
#   11 points: aeon 0.00 of the features constant, sktime 0.00
#   rising or falling series of 6 points, accuracy: RocketClassifier 0.50, ridge on the points 1.00; of 12 points: 1.00, 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    aeon==1.6.0 sktime==1.2.0 numpy==2.3.5 scipy==1.17.1 scikit-learn==1.9.1 numba==0.63.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from aeon.classification.convolution_based import RocketClassifier
from aeon.transformations.collection.convolution_based import Rocket
from sklearn.linear_model import RidgeClassifierCV
from sktime.transformations.panel import rocket

rng = np.random.default_rng(0)
for points, wanted in {6: 1, 8: 2 / 3, 10: 1 / 3, 11: 0}.items():
    series = rng.normal(size=(50, 1, points))
    models = (Rocket(n_kernels=1000, random_state=0), rocket.Rocket(num_kernels=1000, random_state=0))
    shares = [float((np.asarray(model.fit_transform(series)).std(0) < 1e-5).mean()) for model in models]
    print(f"{points} points: aeon {shares[0]:.2f} of the features constant, sktime {shares[1]:.2f}")
    assert max(abs(share - wanted) for share in shares) < 0.05, "the behaviour has changed"


def accuracies(points):
    slopes = np.tile([1, -1], 60)
    series = slopes[:, None] * np.linspace(-1, 1, points) + 0.3 * rng.normal(size=(120, points))
    rocketed = RocketClassifier(random_state=0).fit(series[:60, None], slopes[:60]).score(series[60:, None], slopes[60:])
    return rocketed, RidgeClassifierCV().fit(series[:60], slopes[:60]).score(series[60:], slopes[60:])


short, long = accuracies(6), accuracies(12)
print(
    f"rising or falling series of 6 points, accuracy: RocketClassifier {short[0]:.2f}, ridge on the points {short[1]:.2f}; "
    f"of 12 points: {long[0]:.2f}, {long[1]:.2f}"
)
assert short[0] < 0.7 and min(short[1], *long) > 0.95, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
