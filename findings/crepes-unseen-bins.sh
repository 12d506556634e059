#!/usr/bin/env bash
# crepes 0.9.1: a category without calibration examples gets the interval from 0 to 0, and `warm_start=False` does nothing to p-values.
#
# Behaviour: conformal regressors and predictive systems by categories (`bins`) return the interval [0, 0] for each object whose category has no
# calibration example, where a category with too few gets an infinite one and a warning. Percentiles are 0, p-values of predictive systems 0, and
# the mean CRPS counts such objects as perfect. The online methods give infinite intervals for the same objects. `predict_p_online` of both
# takes `warm_start` and always starts from the calibration set, so `evaluate(online=True, warm_start=False)` joins a cold error rate with a
# warm test of uniformity. Nothing is said.
# Guess before: intervals of 90 % hold nine of ten objects of each category, or are infinite; cold starts do not see the calibration set.
# Seen (crepes 0.9.1, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64), 1000 objects, 90 %, four categories, three calibrated:
#   ConformalRegressor: labels held, known categories 0.87, new one 0.00; online 0.88 and 0.96; first interval of the new one [0.0, 0.0]
#   ConformalPredictiveSystem: labels held, known categories 0.87, new one 0.00; online 0.88 and 0.95; first interval of the new one [0.0, 0.0]
#   ConformalPredictiveSystem: mean CRPS of known categories 0.579, of the new one 0.000
#   ConformalRegressor, online, warm_start=True: p at the extreme tenth 0.366, outside the 90 % interval 0.366
#   ConformalRegressor, online, warm_start=False: p at the extreme tenth 0.366, outside the 90 % interval 0.089
#   ConformalPredictiveSystem, online, warm_start=True: p at the extreme tenth 0.360, outside the 90 % interval 0.358
#   ConformalPredictiveSystem, online, warm_start=False: p at the extreme tenth 0.360, outside the 90 % interval 0.089
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check crepes==0.9.1 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 pandas==3.1.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from crepes import ConformalPredictiveSystem, ConformalRegressor

rng = np.random.default_rng(0)
residuals, known = rng.normal(size=1000), rng.integers(3, size=1000)
guesses, categories = rng.normal(size=1000) + 10, rng.integers(4, size=1000)
labels = guesses + rng.normal(size=1000)
new = categories == 3


def share_held(intervals, rows):
    return float(((intervals[:, 0] <= labels) & (labels <= intervals[:, 1]))[rows].mean())


for method in (ConformalRegressor, ConformalPredictiveSystem):
    fitted = method().fit(residuals, bins=known)
    batch = fitted.predict_int(guesses, bins=categories, confidence=0.9)
    online = fitted.predict_int_online(guesses, labels, bins=categories, confidence=0.9, warm_start=True)
    held = [share_held(intervals, rows) for intervals in (batch, online) for rows in (~new, new)]
    words = "known categories {:.2f}, new one {:.2f}; online {:.2f} and {:.2f}".format(*held)
    print(f"{method.__name__}: labels held, {words}; first interval of the new one {batch[new][0].tolist()}")
    assert held[0] > 0.85 and held[1] == 0 and not batch[new].any() and min(held[2:]) > 0.85, "the behaviour has changed"
rest = [fitted.evaluate(guesses[rows], labels[rows], bins=categories[rows], metrics=["CRPS"])["CRPS"] for rows in (~new, new)]
print(f"ConformalPredictiveSystem: mean CRPS of known categories {rest[0]:.3f}, of the new one {rest[1]:.3f}")
assert rest[0] > 0.5 and rest[1] == 0, "the behaviour has changed"

labels = guesses + 5 * rng.normal(size=1000)  # five times the errors of calibration: only a cold start is exact
for method in (ConformalRegressor, ConformalPredictiveSystem):
    fitted = method().fit(residuals)
    for warm in (True, False):
        chances = fitted.predict_p_online(guesses, labels, warm_start=warm, seed=0)
        intervals = fitted.predict_int_online(guesses, labels, confidence=0.9, warm_start=warm)
        extreme = float((chances < 0.1).mean() if method is ConformalRegressor else (abs(chances - 0.5) > 0.45).mean())
        missed = 1 - share_held(intervals, slice(None))
        print(f"{method.__name__}, online, warm_start={warm}: p at the extreme tenth {extreme:.3f}, outside the 90 % interval {missed:.3f}")
        assert extreme > 0.2 and ((missed > 0.2) if warm else (missed < 0.13)), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
