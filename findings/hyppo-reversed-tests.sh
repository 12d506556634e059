#!/usr/bin/env bash
# hyppo 0.5.2: the Friedman-Rafsky p-value is upside down, a partial correlation is 0 below a negative one, HSIC depends on the unit of y.
#
# Behaviour: few runs speak for two different samples, but `FriedmanRafsky` counts the permutations with as many runs or more: p is 1 where
# the samples lie apart. `PartialCorr` returns a statistic of 0 when x or y correlates negatively with z, and takes one tail of the t
# distribution, so it rejects twice as often as it should where it works. `Hsic` (and `dHsic`) with its default kernel, described as one
# that uses the median distance, takes the median of the first argument for all: measured in other units y is independent of x. `Hsic.test`
# takes a `random_state` and does not use it. `dHsic` shuffles each column by itself, so variables of several correlated columns are often called
# dependent though they are not. `KCI` takes traces of kernels that are not centred: p is 0 or 1, mostly 1. Nothing is said.
# Guess before: statistics agree with their formulas, and p-values are uniform for independent data.
# Seen (hyppo 0.5.2, SciPy 1.17.1, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   FriedmanRafsky, means 0 apart: 34 runs, p 0.232, by SciPy's tree 0.844
#   FriedmanRafsky, means 2 apart: 8 runs, p 1.000, by SciPy's tree 0.002
#   FriedmanRafsky, means 5 apart: 2 runs, p 1.000, by SciPy's tree 0.002
#   PartialCorr, x = +1 z + c: 0.897, p 0.000, by the formula of its docstring 0.897
#   PartialCorr, x = -1 z + c: 0.000, p 0.500, by the formula of its docstring 0.921
#   PartialCorr, p below 0.05 without dependence: 0.092 of 500, with both tails 0.046
#   y = 1 x^2 + noise: p of Hsic(x, y) 4.7e-09, of Hsic(y, x) 9.9e-10, of Dcorr(x, y) 2.8e-06
#   y = 100 x^2 + noise: p of Hsic(x, y) 2.8e-02, of Hsic(y, x) 1.0e+00, of Dcorr(x, y) 2.8e-06
#   y = 1000 x^2 + noise: p of Hsic(x, y) 2.6e-01, of Hsic(y, x) 1.0e+00, of Dcorr(x, y) 2.8e-06
#   different p-values in 5 runs with random_state=0: Hsic 5, Dcorr 1
#   dHsic, p below 0.05 without dependence: variables of one column 0.05, of twenty 0.70
#   y = 0 x + noise: p of KCI between 0.001 and 0.999 in 0.00 of 50, below 0.05 in 0.00, p of Dcorr below 0.05 in 0.04
#   y = 0.3 x + noise: p of KCI between 0.001 and 0.999 in 0.02 of 50, below 0.05 in 0.02, p of Dcorr below 0.05 in 0.78
#   y = 0.5 x + noise: p of KCI between 0.001 and 0.999 in 0.08 of 50, below 0.05 in 0.14, p of Dcorr below 0.05 in 0.90
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hyppo==0.5.2 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 numba==0.68.1 \
  pandas==3.1.1 statsmodels==0.15.0
cat > "$folder/look.py" <<'PY'
import numpy as np
from hyppo.conditional import KCI, PartialCorr
from hyppo.d_variate import dHsic
from hyppo.independence import Dcorr, Hsic
from hyppo.ksample import FriedmanRafsky
from scipy import stats
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

rng = np.random.default_rng(0)
np.random.seed(0)  # Hsic and dHsic take no other seed
labels = np.repeat([0, 1], 30)
for apart in (0, 2, 5):
    points = rng.normal(size=(60, 2)) + apart * labels[:, None]
    one, other = minimum_spanning_tree(cdist(points, points)).nonzero()
    shuffled = [rng.permutation(labels) for _ in range(500)]
    runs, *under_null = [1 + int((order[one] != order[other]).sum()) for order in (labels, *shuffled)]
    wanted = (1 + sum(count <= runs for count in under_null)) / 501
    found = FriedmanRafsky().test(points, labels, reps=500, random_state=0)
    print(f"FriedmanRafsky, means {apart} apart: {found.uncor_stat} runs, p {found.pvalue:.3f}, by SciPy's tree {wanted:.3f}")
    assert found.uncor_stat == runs and (not apart or wanted < 0.01 < 0.99 < found.pvalue), "the behaviour has changed"


def partial(x, y, z):
    xy, xz, yz = np.corrcoef(np.hstack([x, y, z]).T)[np.triu_indices(3, 1)]
    return (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))


def normal(columns=1, rows=80):
    return rng.normal(size=(rows, columns))


z, common = normal(), normal()
for sign in (1, -1):
    x, y = sign * z + common, z + common + 0.5 * normal()
    found, wanted = PartialCorr().test(x, y, z), partial(x, y, z)
    print(f"PartialCorr, x = {sign:+} z + c: {found.stat:.3f}, p {found.pvalue:.3f}, by the formula of its docstring {wanted:.3f}")
    assert abs(wanted) > 0.5 and (abs(found.stat - wanted) < 1e-9 if sign == 1 else found.stat == 0), "the behaviour has changed"
draws = [(z + normal(), z + normal(), z) for z in (normal() for _ in range(500))]
found = np.array([PartialCorr().test(*draw).pvalue for draw in draws])
wanted = np.array([2 * stats.t.sf(abs(r) * np.sqrt(77 / (1 - r**2)), 77) for r in (partial(*draw) for draw in draws)])
shares = [float((p < 0.05).mean()) for p in (found, wanted)]
print(f"PartialCorr, p below 0.05 without dependence: {shares[0]:.3f} of 500, with both tails {shares[1]:.3f}")
assert np.allclose(found, wanted / 2) and shares[0] > 0.08, "the behaviour has changed"

x = normal()
y = x**2 + 0.1 * normal()
for factor in (1, 100, 1000):
    found, swapped, distances = (test().test(*pair).pvalue for test, pair in ((Hsic, (x, factor * y)), (Hsic, (factor * y, x)), (Dcorr, (x, factor * y))))
    print(f"y = {factor} x^2 + noise: p of Hsic(x, y) {found:.1e}, of Hsic(y, x) {swapped:.1e}, of Dcorr(x, y) {distances:.1e}")
    assert found < 1e-6 if factor == 1 else found > 1e-3, "the behaviour has changed"
few = [(normal(rows=20), normal(rows=20))] * 5
seeded = [len({test().test(*pair, reps=100, auto=False, random_state=0).pvalue for pair in few}) for test in (Hsic, Dcorr)]
print(f"different p-values in 5 runs with random_state=0: Hsic {seeded[0]}, Dcorr {seeded[1]}")
assert seeded[0] > 1 == seeded[1], "the behaviour has changed"
rejected = {1: [], 20: []}
for columns in [1, 20] * 20:
    pair = [normal(1, 60) + 0.5 * normal(columns, 60) for _ in range(2)]
    rejected[columns].append(dHsic().test(*pair, reps=99).pvalue < 0.05)
shares = {columns: float(np.mean(found)) for columns, found in rejected.items()}
print(f"dHsic, p below 0.05 without dependence: variables of one column {shares[1]:.2f}, of twenty {shares[20]:.2f}")
assert shares[1] < 0.3 and shares[20] > 0.5, "the behaviour has changed"
for slope in (0, 0.3, 0.5):
    pairs = [(x, slope * x + normal()) for x in (normal() for _ in range(50))]
    found, distances = (np.array([test().test(*pair).pvalue for pair in pairs]) for test in (KCI, Dcorr))
    between = float(((found > 0.001) & (found < 0.999)).mean())
    words = f"p of KCI between 0.001 and 0.999 in {between:.2f} of 50, below 0.05 in {(found < 0.05).mean():.2f}"
    print(f"y = {slope} x + noise: {words}, p of Dcorr below 0.05 in {(distances < 0.05).mean():.2f}")
    assert between < 0.2 and (slope or found.min() > 0.999), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
