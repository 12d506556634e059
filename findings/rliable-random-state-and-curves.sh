#!/usr/bin/env bash
# rliable 1.2.0: `random_state` does nothing, and intervals of what is averaged over checkpoints are ten times too narrow.
#
# Behaviour: `get_interval_estimates` takes a `random_state` that "ensures reproducibility in uncertainty estimates", but both bootstraps draw
# from NumPy's global generator: the same state gives two intervals, two states give one where that is seeded. Of scores of three axes
# ("evaluation scores at multiple points during training") each task and each checkpoint draws its own runs: a resampled curve is put
# together from checkpoints of several runs, so whatever joins checkpoints (their mean, the best one) averages the differences of the
# runs away. The interval of a mean over 100 checkpoints is a tenth as wide as that of the same means given as runs x tasks. Nothing is said.
# Guess before: equal states give equal intervals, and a mean taken by the function or before has one interval.
# Seen (rliable 1.2.0, arch 7.2.0, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   twice with RandomState(0): 0.7678 to 0.8128; 0.7681 to 0.8125
#   with RandomState(0) and RandomState(1), NumPy's own seed set before each: 0.7663 to 0.8121; 0.7663 to 0.8121
#   5 runs of 3 tasks, the last of 100 checkpoints: 0.7995, 0.7835 to 0.8171, width 0.0336
#   5 runs of 3 tasks, the mean of 100 checkpoints: 0.7996, 0.7979 to 0.8013, width 0.0035
#   5 runs of 3 tasks, the same means, given as runs x tasks: 0.7996, 0.7831 to 0.8179, width 0.0348
#   width by the variance of the runs: 0.0340
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rliable==1.2.0 arch==7.2.0 numpy==2.4.6 scipy==1.17.1 pandas==2.3.3
cat > "$folder/look.py" <<'PY'
import numpy as np
from rliable import library, metrics

rng = np.random.default_rng(0)
np.random.seed(3)


def interval(scores, function, **settings):
    return library.get_interval_estimates({"method": scores}, function, reps=500, **settings)[1]["method"].ravel()


def interquartile_mean(scores):
    return np.array([metrics.aggregate_iqm(scores)])


runs = rng.normal(0.80, 0.05, (5, 3))
found = [interval(runs, interquartile_mean, random_state=np.random.RandomState(0)) for _ in range(2)]
words = ["{:.4f} to {:.4f}".format(*pair) for pair in found]
print(f"twice with RandomState(0): {words[0]}; {words[1]}")
assert not np.array_equal(*found), "the behaviour has changed"
found = []
for state in (0, 1):
    np.random.seed(0)
    found.append(interval(runs, interquartile_mean, random_state=np.random.RandomState(state)))
words = ["{:.4f} to {:.4f}".format(*pair) for pair in found]
print(f"with RandomState(0) and RandomState(1), NumPy's own seed set before each: {words[0]}; {words[1]}")
assert np.array_equal(*found), "the behaviour has changed"

curves = rng.normal(0.80, 0.05, (5, 3, 1)) + rng.normal(0, 0.001, (5, 3, 100))
CASES = [
    ("the last of 100 checkpoints", curves, lambda scores: np.array([scores[..., -1].mean()])),
    ("the mean of 100 checkpoints", curves, lambda scores: np.array([scores.mean()])),
    ("the same means, given as runs x tasks", curves.mean(-1), lambda scores: np.array([scores.mean()])),
]
widths = []
for words, scores, function in CASES:
    low, high = interval(scores, function)
    widths.append(high - low)
    print(f"5 runs of 3 tasks, {words}: {float(function(scores)[0]):.4f}, {low:.4f} to {high:.4f}, width {high - low:.4f}")
exact = 2 * 1.96 * np.sqrt((curves.mean(-1).var(0) / 5).sum()) / 3
print(f"width by the variance of the runs: {exact:.4f}")
assert widths[1] < 0.2 * exact and 0.7 * exact < min(widths[0], widths[2]), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
