#!/usr/bin/env bash
# uncertainty-calibration 0.1.4: the 90 % interval of a calibration error is a 99.9 % interval.
#
# Behaviour: `get_calibration_error_uncertainties` promises intervals of 1 - alpha with alpha=0.1 by default, and hands alpha to percentiles,
# which take it for 0.1 per cent: of 100 resampled errors the first and the last stand outside. Any alpha below 1 gives nearly the same interval; a call that
# wants 90 % needs alpha=10. `get_selective_stats` tells the accuracy of the 10 % most confident predictions and takes one more:
# of ten predictions two. Nothing is said.
# Guess before: the ends are the 5th and the 95th percentile of the resampled errors, mirrored at the error of the data.
# Seen (uncertainty-calibration 0.1.4, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64), of 100 resampled errors:
#   alpha=0.05: 0.0257 to 0.0946, 2 outside
#   alpha=0.1: 0.0258 to 0.0944, 2 outside
#   alpha=0.5: 0.0265 to 0.0927, 2 outside
#   alpha=10: 0.0424 to 0.0837, 10 outside
# Accuracy of the most confident tenth:
#   10 predictions, the first tenth right: accuracy of the most confident tenth told as 0.500
#   100 predictions, the first tenth right: accuracy of the most confident tenth told as 0.909
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uncertainty-calibration==0.1.4 numpy==2.4.6 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import calibration
import numpy as np
from calibration import utils

rng = np.random.default_rng(0)
chances = rng.uniform(size=1000)
labels = (rng.uniform(size=1000) < chances**1.3).astype(int)
resampled = []
bootstrap = utils.resample


def recorded(data):
    drawn = bootstrap(data)
    resampled.append(utils.get_calibration_error(*zip(*drawn), 2, debias=False))
    return drawn


utils.resample = recorded
width = {}
for alpha in (0.05, 0.1, 0.5, 10):
    resampled.clear()
    np.random.seed(0)
    low, _, high = calibration.get_calibration_error_uncertainties(chances, labels, alpha=alpha)
    error = utils.get_calibration_error(chances, labels, 2, debias=False)
    mirrored = 2 * error - np.array(resampled)
    outside = int(((mirrored < low) | (mirrored > high)).sum())
    width[alpha] = high - low
    print(f"alpha={alpha}: {low:.4f} to {high:.4f}, {outside} outside")
    assert outside == (10 if alpha == 10 else 2), "the behaviour has changed"
assert width[0.05] / width[0.5] < 1.1 and width[0.1] > 1.5 * width[10], "the behaviour has changed"
for rows in (10, 100):
    right = np.arange(rows) < rows // 10
    found = utils.get_selective_stats(np.linspace(0.9, 0.6, rows), right)[1]
    print(f"{rows} predictions, the first tenth right: accuracy of the most confident tenth told as {found:.3f}")
    assert found == rows // 10 / (rows // 10 + 1), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
