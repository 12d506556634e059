#!/usr/bin/env bash
# permute 0.2: its Spearman correlation is none, two strata hide the third method, adjusted p-values go to other hypotheses.
#
# Behaviour: `spearman_corr` correlates the results of `argsort`, which tell where the smallest value stands, not which rank a value has: it
# is right only where one of the two rows is sorted. `stratified_permutationtest` chooses its statistic by the number of strata, where its
# documentation says that of conditions: in two data sets only the first two methods are compared, whatever the third one reaches.
# `fwer_minp` puts adjusted p-values back by the order that sorted them, not by its inverse: they go to other hypotheses. Nothing is said.
# Guess before: correlations are SciPy's, a method that is far better is found, and adjusted p-values rise with the p-values.
# Seen (permute 0.2, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   30 pairs as drawn: correlation 0.317, p 0.032; by SciPy 0.935, p 4e-14
#   30 pairs sorted by the first: correlation 0.935, p 0.002; by SciPy 0.935, p 4e-14
#   2 data sets, 3 methods, the third better by 0.10: statistic 0.0024, p 0.992; sum of standard deviations 0.0985, ANOVA p 8e-23
#   3 data sets, 3 methods, the third better by 0.10: statistic 0.1448, p 0.002; sum of standard deviations 0.1448, ANOVA p 1e-30
#   p-values 0.04, 0.001, 0.03, 0.2: adjusted 0.085, 0.085, 0.0005, 0.2; where they are given sorted 0.085, 0.0005, 0.085, 0.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check permute==0.2 cryptorandom==0.4 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from permute.core import spearman_corr
from permute.npc import fwer_minp
from permute.stratified import stratified_permutationtest
from scipy.stats import f_oneway, spearmanr

rng = np.random.default_rng(1)
sizes = rng.normal(size=30)
scores = sizes + rng.normal(0, 0.3, 30)
order = np.argsort(sizes)
for words, rows in (("as drawn", np.arange(30)), ("sorted by the first", order)):
    found, p, _ = spearman_corr(sizes[rows], scores[rows], reps=500, seed=np.random.RandomState(0))
    wanted = spearmanr(sizes[rows], scores[rows])
    print(f"30 pairs {words}: correlation {found:.3f}, p {p:.3f}; by SciPy {wanted.statistic:.3f}, p {wanted.pvalue:.0e}")
    assert wanted.statistic > 0.9 and (abs(found - wanted.statistic) > 0.3) == (words == "as drawn"), "the behaviour has changed"

for strata in (2, 3):
    stratum = np.repeat(np.arange(strata), 15)
    method = np.tile(np.repeat(np.arange(3), 5), strata)
    accuracy = rng.normal(0.80, 0.01, len(method)) + 0.10 * (method == 2)
    p, statistic, _ = stratified_permutationtest(stratum, method, accuracy, reps=500, seed=np.random.RandomState(0))
    means = np.array([[accuracy[(stratum == s) & (method == m)].mean() for m in range(3)] for s in range(strata)])
    wanted = means.std(1).sum()
    anova = f_oneway(*(accuracy[method == m] for m in range(3))).pvalue
    print(
        f"{strata} data sets, 3 methods, the third better by 0.10: statistic {statistic:.4f}, p {p:.3f}; "
        f"sum of standard deviations {wanted:.4f}, ANOVA p {anova:.0e}"
    )
    assert anova < 1e-9 and (p < 0.01 and np.isclose(statistic, wanted)) == (strata == 3), "the behaviour has changed"
    assert strata == 3 or np.isclose(statistic, abs(means[:, 0] - means[:, 1]).sum()), "the behaviour has changed"

given = np.array([0.04, 0.001, 0.03, 0.2])
null = rng.normal(size=(2000, 4))
found = fwer_minp(given, null, combine="tippett")
rank = np.argsort(given)
ordered = fwer_minp(given[rank], null[:, rank], combine="tippett")
wanted = np.empty(4)
wanted[rank] = ordered
words = [", ".join(f"{value:.2g}" for value in values) for values in (given, found, wanted)]
print(f"p-values {words[0]}: adjusted {words[1]}; where they are given sorted {words[2]}")
assert (np.diff(ordered) >= 0).all() and found[1] > 10 * found[2], "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
