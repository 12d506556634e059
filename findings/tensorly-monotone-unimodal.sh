#!/usr/bin/env bash
# tensorly 0.10.0: the projection on monotone columns makes negative numbers larger, that on unimodal ones is not the nearest.
#
# Behaviour: `monotonicity_prox` takes maxima over a table that is filled up with zeros, so that all but the last entry of a rising
# column are at least as large as 0 or the last one: -4, -3, -2, -1 rises already and comes back as four times -1. Columns of
# positive numbers are right. `unimodality_prox` is built on it and cuts monotone fits of the whole column at a peak, where fits
# of each side are needed: also of positive columns most results are not the nearest, and most columns that are unimodal
# already are changed. `constrained_parafac` uses both in each inner step: with `monotonicity` it cannot fit a tensor whose
# factor rises from below 0. Nothing is said.
# Guess before: they are isotonic regression, rising or up to the best peak, and change no column that fulfils the constraint.
# Seen (tensorly 0.10.0, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64):
#   [-4. -3. -2. -1.] rises already; its projection on rising columns is [-1. -1. -1. -1.]
#   [1. 3. 2.] has one peak; its projection on columns with one is [1. 2. 2.]
#   columns positive, rising: 0% wrong, by up to 0.00
#   columns positive, falling: 0% wrong, by up to 0.00
#   columns of both signs, rising: 73% wrong, by up to 2.83
#   columns of both signs, falling: 73% wrong, by up to 3.35
#   columns negative, rising: 87% wrong, by up to 4.71
#   columns negative, falling: 88% wrong, by up to 4.07
#   unimodal, positive columns: 79% not the nearest, squared distance 1.16 times the smallest in all
#   columns that are unimodal already: 73% are changed
#   constrained_parafac of a tensor with a rising factor from -1 to 2, free: 0.000 of it left
#   constrained_parafac of a tensor with a rising factor from -1 to 2, rising: 0.369 of it left
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 tensorly==0.10.0
cat > "$folder/look.py" <<'PY'
import numpy as np
import tensorly as tl
from sklearn.isotonic import isotonic_regression
from tensorly.decomposition import constrained_parafac
from tensorly.tenalg.proximal import monotonicity_prox, unimodality_prox

random = np.random.default_rng(0)
NUMBER = 500


def nearest_unimodal(column):
    """The nearest column that rises to a peak and falls after it."""
    best = None
    for peak in range(len(column)):
        rising = isotonic_regression(column[: peak + 1])
        falling = isotonic_regression(column[peak:], increasing=False)
        both = np.concatenate([isotonic_regression(column[:peak]), falling]) if peak else falling
        for found in (np.concatenate([rising, falling[1:]]), both):
            steps = np.sign(np.diff(found).round(12))
            steps = steps[steps != 0]
            if (np.diff(steps) <= 0).all() and (best is None or ((found - column) ** 2).sum() < ((best - column) ** 2).sum()):
                best = found
    return best


rising = np.array([-4.0, -3, -2, -1])
told = monotonicity_prox(rising).ravel()
print(f"{rising} rises already; its projection on rising columns is {told}")
assert np.allclose(told, -1), "the behaviour has changed"

told = unimodality_prox(np.array([[1.0], [3], [2]])).ravel()
print(f"[1. 3. 2.] has one peak; its projection on columns with one is {told}")
assert np.allclose(told, [1, 2, 2]), "the behaviour has changed"

for title, shift in (("positive", 5.0), ("of both signs", 0.0), ("negative", -5.0)):
    columns = np.clip(random.normal(size=(8, NUMBER)), -4, 4) + shift
    for falling in (False, True):
        found = monotonicity_prox(columns, decreasing=falling)
        wanted = np.stack([isotonic_regression(column, increasing=not falling) for column in columns.T], axis=1)
        away = np.abs(found - wanted).max(axis=0)
        wrong = float((away > 1e-9).mean())
        print(f"columns {title}, {'falling' if falling else 'rising'}: {wrong:.0%} wrong, by up to {away.max():.2f}")
        assert (wrong == 0) if shift > 0 else wrong > 0.5, "the behaviour has changed"

columns = random.random((8, NUMBER))
found = unimodality_prox(columns)
wanted = np.stack([nearest_unimodal(column) for column in columns.T], axis=1)
further = ((found - columns) ** 2).sum(axis=0) > ((wanted - columns) ** 2).sum(axis=0) + 1e-9
ratio = float(((found - columns) ** 2).sum() / ((wanted - columns) ** 2).sum())
changed = float((np.abs(unimodality_prox(wanted) - wanted).max(axis=0) > 1e-9).mean())
print(f"unimodal, positive columns: {further.mean():.0%} not the nearest, squared distance {ratio:.2f} times the smallest in all")
print(f"columns that are unimodal already: {changed:.0%} are changed")
assert further.mean() > 0.3 and ratio > 1.1 and changed > 0.3, "the behaviour has changed"

factors = [np.linspace(-1, 2, 9)[:, None], random.random((8, 1)) + 0.5, random.random((7, 1)) + 0.5]
tensor = tl.cp_to_tensor((None, factors))
for title, options in {"free": {}, "rising": {"monotonicity": {0: True}}}.items():
    found = constrained_parafac(tensor, rank=1, n_iter_max=2000, tol_outer=1e-12, random_state=0, **options)
    left = float(np.linalg.norm(tl.cp_to_tensor(found) - tensor) / np.linalg.norm(tensor))
    print(f"constrained_parafac of a tensor with a rising factor from -1 to 2, {title}: {left:.3f} of it left")
    assert (left < 0.02) == (title == "free"), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
