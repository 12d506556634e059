#!/usr/bin/env bash
# dabest 2025.10.20: three runs against three have p = 0, and p-values and intervals over two experiments depend on the order of the rows.
#
# Behaviour: the permutation test counts only permutations beyond the difference seen, not those that reach it, though it reports "the
# probability of observing the effect size (or greater)". Groups of three that do not overlap have p = 0, where 0.1 is the smallest that can
# be; `ps_adjust`, which is to rule out zeros, gives 2e-230. Every experiment is permuted and resampled by the same random numbers, also
# where groups are not paired: row i of one experiment always moves with row i of the next. Delta-delta and the weighted delta ("mini-meta")
# take these draws as independent. With sorted rows the same data has p = 0.015 in place of 0.42, and an interval a third wider. Delta g
# takes standard deviations over N, not N - 1 as Cohen's d and Hedges' g of the same library do: groups of four read 15 % too much.
# Guess before: p is 0.1, no number depends on the order of rows that are not paired, and delta g takes N - 1.
# Seen (dabest 2025.10.20, NumPy 2.1.3, pandas 2.2.3, Python 3.11, Linux x86-64):
#   three runs against three, all better: p 0.000, ps_adjust 2e-230, SciPy 0.100
#   rows as drawn: delta-delta -0.349, p 0.436; weighted delta 0.129, interval 0.78 wide
#   rows sorted: delta-delta -0.349, p 0.015; weighted delta 0.126, interval 1.04 wide
#   each experiment resampled by itself: p 0.416, interval 0.78 wide
#   delta g of groups of four: -0.838, by the pooled standard deviation -0.726
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    dabest==2025.10.20 numpy==2.1.3 pandas==2.2.3 scipy==1.15.3 numba==0.61.2
cat > "$folder/look.py" <<'PY'
import dabest
import numpy as np
import pandas as pd
from dabest._stats_tools.confint_2group_diff import compute_delta2_bootstrapped_diff
from scipy.stats import permutation_test

before, after = np.array([91.25, 91.5, 92.0]), np.array([93.0, 93.25, 93.75])
plain, adjusted = (
    dabest.PermutationTest(before, after, "mean_diff", ps_adjust=adjust).pvalue for adjust in (False, True)
)
wanted = permutation_test((after, before), lambda a, b: a.mean() - b.mean()).pvalue
print(f"three runs against three, all better: p {plain:.3f}, ps_adjust {adjusted:.0e}, SciPy {wanted:.3f}")
assert plain == 0 and adjusted < 1e-100 and abs(wanted - 0.1) < 1e-9, "the behaviour has changed"

rng = np.random.default_rng(0)
groups = {name: rng.normal(size=20) for name in "abcd"}
orders = {"as drawn": groups, "sorted": {name: np.sort(values) for name, values in groups.items()}}


def resampled(draw, count=4000):
    """Both differences under permuted labels or resampling, each group and experiment by itself."""
    deltas = []
    for first, second in ("ab", "cd"):
        pair = np.stack([groups[first], groups[second]])
        if draw == "permute":
            pair = rng.permuted(np.broadcast_to(pair.ravel(), (count, 40)), axis=1).reshape(count, 2, 20)
        else:
            pair = np.stack([values[rng.integers(20, size=(count, 20))] for values in pair], 1)
        deltas.append(pair[:, 1].mean(-1) - pair[:, 0].mean(-1))
    return deltas


means = {name: values.mean() for name, values in groups.items()}
delta = abs((means["d"] - means["c"]) - (means["b"] - means["a"]))
first, second = resampled("permute")
share = float((abs(second - first) >= delta).mean())
first, second = resampled("bootstrap")
weighted = (first / first.var() + second / second.var()) / (1 / first.var() + 1 / second.var())
width = float(np.subtract(*np.percentile(weighted, [97.5, 2.5])))
seen = {}
for title, values in orders.items():
    wide = pd.DataFrame(values)
    long = wide.melt(var_name="group", value_name="y")
    long["arm"] = np.where(long.group.isin(["a", "c"]), "control", "test")
    long["experiment"] = np.where(long.group.isin(["a", "b"]), "one", "two")
    settings = {"experiment": "experiment", "experiment_label": ["one", "two"], "x1_level": ["control", "test"]}
    crossed = dabest.load(
        long, x=["arm", "experiment"], y="y", delta2=True, resamples=1000, **settings
    ).mean_diff.delta_delta
    meta = dabest.load(wide, idx=(("a", "b"), ("c", "d")), mini_meta=True, resamples=2000).mean_diff.mini_meta
    seen[title] = crossed.pvalue_permutation, meta.pct_high - meta.pct_low
    print(
        f"rows {title}: delta-delta {crossed.difference:.3f}, p {seen[title][0]:.3f}; "
        f"weighted delta {meta.difference:.3f}, interval {seen[title][1]:.2f} wide"
    )
print(f"each experiment resampled by itself: p {share:.3f}, interval {width:.2f} wide")
assert abs(seen["as drawn"][0] - share) < 0.1 and seen["sorted"][0] < 0.05 < 0.3 < share, "the behaviour has changed"
assert abs(seen["as drawn"][1] - width) < 0.12 and seen["sorted"][1] > width + 0.2, "the behaviour has changed"

four = [values[:4] for values in groups.values()]
found = compute_delta2_bootstrapped_diff(*four, resamples=10)[1]
deltas = [four[1].mean() - four[0].mean(), four[3].mean() - four[2].mean()]
wanted = (deltas[1] - deltas[0]) / np.mean([values.var(ddof=1) for values in four]) ** 0.5
print(f"delta g of groups of four: {found:.3f}, by the pooled standard deviation {wanted:.3f}")
assert abs(found / wanted - (4 / 3) ** 0.5) < 1e-6, "the behaviour has changed"
PY
# Without compiling, which takes dabest minutes and computes the same numbers.
export NUMBA_DISABLE_JIT=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log" | grep -v "umba " || { cat "$folder/log"; exit 1; }
