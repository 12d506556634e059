#!/usr/bin/env bash
# pingouin 0.7.0: the power that a paired t-test reports is that of other data: it does not know how the pairs correlate.
#
# Behaviour: `ttest(x, y, paired=True)` takes Cohen's d of two unpaired samples into the power of a paired test, whose effect size is
# the mean difference divided by the spread of the differences. The two are equal at a correlation of 0.5 only. Pairs that
# correlate by 0.98 (two networks on the same folds, one image before and after) are told a power of 0.22 where every sample is found,
# with p-values of 1e-5; pairs that correlate by -0.5 are told 0.56 where 0.24 are found. T, p-value and interval are right, and so is
# `power_ttest` of the effect size of the differences. The docstring calls it the achieved power of the test.
# Guess before: the t-test of pingouin gives scipy's and statsmodels' numbers.
# Seen (pingouin 0.7.0, statsmodels 0.15.0, SciPy 1.17.1, NumPy 2.4.6, Python 3.11, Linux x86-64), 20 pairs, 5 % level:
#   correlation -0.50: found 0.24 of the samples, statsmodels 0.23, power told 0.56, median p-value 2.0e-01
#   correlation  0.00: found 0.32 of the samples, statsmodels 0.32, power told 0.54, median p-value 1.4e-01
#   correlation  0.50: found 0.57 of the samples, statsmodels 0.56, power told 0.54, median p-value 3.7e-02
#   correlation  0.90: found 0.80 of the samples, statsmodels 0.81, power told 0.27, median p-value 8.4e-03
#   correlation  0.98: found 1.00 of the samples, statsmodels 1.00, power told 0.22, median p-value 1.3e-05
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pingouin==0.7.0 numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
cat > "$folder/look.py" <<'PY'
import numpy
import pingouin
from scipy import stats
from statsmodels.stats.power import TTestPower

PAIRS, SAMPLES = 20, 300
rng = numpy.random.default_rng(0)
for correlation, shift in ((-0.5, 0.5), (0.0, 0.5), (0.5, 0.5), (0.9, 0.3), (0.98, 0.25)):
    covariance = [[1, correlation], [correlation, 1]]
    pairs = rng.multivariate_normal([0, shift], covariance, size=(2000, PAIRS))
    share = float((stats.ttest_rel(pairs[:, :, 0], pairs[:, :, 1], axis=1).pvalue < 0.05).mean())
    found = [pingouin.ttest(first, second, paired=True).iloc[0] for first, second in pairs[:SAMPLES].transpose(0, 2, 1)]
    told = float(numpy.mean([row["power"] for row in found]))
    median = float(numpy.median([row["p_val"] for row in found]))
    known = TTestPower().power(shift / numpy.sqrt(2 - 2 * correlation), PAIRS, 0.05)
    print(
        f"correlation {correlation:5.2f}: found {share:.2f} of the samples, statsmodels {known:.2f}, "
        f"power told {told:.2f}, median p-value {median:.1e}"
    )
    assert abs(share - known) < 0.03, "the behaviour has changed"
    if correlation >= 0.9:
        assert told < share - 0.3, "the behaviour has changed"
    if correlation < 0:
        assert told > share + 0.2, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
