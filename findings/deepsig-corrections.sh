#!/usr/bin/env bash
# deepsig 1.2.8: corrections for many comparisons make tests laxer, make two models never differ, and swap p-values.
#
# Behaviour: `num_comparisons` and `multi_aso` add (1 - level) / n to the level of 0.95, where Bonferroni's correction, which the
# README names, takes 1 - 0.05 / n. The two agree for two comparisons; beyond, more comparisons make the bound on the violation
# ratio smaller. For two models `multi_aso` has one comparison and a level of 1: both bounds are 1, of models however far apart, or NaN
# where they do not overlap. `bonferroni_correction` multiplies the sorted p-values by n, n - 1, ..., 1 and returns them in a wrong order:
# the hypothesis with the smallest p-value gets another one's. `bootstrap_test`, "paired", draws both sides apart from each other.
# Guess before: corrected bounds and p-values never get smaller, keep the order of the p-values, and a paired test sees the pairs.
# Seen (deepsig 1.2.8, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   comparisons 2: bound 0.197, at the level 1 - 0.05 / 2 0.197
#   comparisons 6: bound 0.174, at the level 1 - 0.05 / 6 0.241
#   comparisons 45: bound 0.167, at the level 1 - 0.05 / 45 0.308
#   two models, one is always better: aso 0.000, multi_aso nan and nan; overlapping: aso 0.165, multi_aso 1.000 and 1.000
#   p-values 0.04, 0.001, 0.03, 0.2: corrected 0.09, 0.08, 0.004, 0.2; Bonferroni's 0.16, 0.004, 0.12, 0.8
#   20 pairs, better in all: bootstrap_test 0.170; t test of pairs 2e-15, of two groups 0.173
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deepsig==1.2.8 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from deepsig import aso, bonferroni_correction, bootstrap_test, multi_aso
from scipy.stats import ttest_ind, ttest_rel

SETTINGS = {"seed": 1, "show_progress": False, "num_bootstrap_iterations": 200}
rng = np.random.default_rng(0)
scores, base = rng.normal(0.803, 0.02, 10), rng.normal(0.80, 0.02, 10)
for count in (2, 6, 45):
    found = aso(scores, base, num_comparisons=count, **SETTINGS)
    wanted = aso(scores, base, confidence_level=1 - 0.05 / count, **SETTINGS)
    added = aso(scores, base, confidence_level=0.95 + 0.05 / count, **SETTINGS)
    print(f"comparisons {count}: bound {found:.3f}, at the level 1 - 0.05 / {count} {wanted:.3f}")
    assert abs(found - added) < 1e-9 and (abs(found - wanted) < 1e-9) == (count == 2), "the behaviour has changed"
    assert count == 2 or found < wanted - 0.05, "the behaviour has changed"

apart, overlapping = np.stack([base + 1, base]), np.stack([scores, base])
single = [aso(*pair, **SETTINGS) for pair in (apart, overlapping)]
double = [multi_aso(pair, **SETTINGS) for pair in (apart, overlapping)]
print(
    f"two models, one is always better: aso {single[0]:.3f}, multi_aso {double[0][0, 1]:.3f} and {double[0][1, 0]:.3f}; "
    f"overlapping: aso {single[1]:.3f}, multi_aso {double[1][0, 1]:.3f} and {double[1][1, 0]:.3f}"
)
assert single[0] < 0.01 and 0.1 < single[1] < 0.2 and np.isnan(double[0]).sum() == 2 and (double[1] == 1).all(), "the behaviour has changed"

given = np.array([0.04, 0.001, 0.03, 0.2])
found, wanted = bonferroni_correction(given), np.minimum(given * len(given), 1)
words = [", ".join(f"{value:.3g}" for value in values) for values in (given, found, wanted)]
print(f"p-values {words[0]}: corrected {words[1]}; Bonferroni's {words[2]}")
assert np.allclose(found, [0.09, 0.08, 0.004, 0.2]) and given.argmin() != found.argmin(), "the behaviour has changed"

before = rng.normal(0.8, 0.05, 20)
after = before + 0.01 + rng.normal(0, 0.002, 20)
found = bootstrap_test(after, before, seed=1)
pairs, groups = (test(after, before, alternative="greater").pvalue for test in (ttest_rel, ttest_ind))
print(f"20 pairs, better in all: bootstrap_test {found:.3f}; t test of pairs {pairs:.0e}, of two groups {groups:.3f}")
assert (after > before).all() and pairs < 1e-9 and abs(found - groups) < 0.1 < found, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
