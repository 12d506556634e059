#!/usr/bin/env bash
# abess 0.4.11: with all columns chosen, Poisson regression returns the start of its fit, not the fit.
#
# Behaviour: for each support below the number of columns the coefficients are the maximum-likelihood ones on that support. With
# `support_size` equal to the number of columns the iterations are left out: Poisson coefficients are about twice too large, and one
# more column makes the deviance 3 times larger here, 15 times with 20 columns. More iterations and a smaller tolerance change nothing;
# `approximate_Newton=True` cures it, and a range of sizes nearly does, since each begins at the one before. The range that is taken by
# default ends one short: where every column matters, one is left out. Linear and logistic regression are right. Nothing is said.
# Guess before: with all columns each model is scikit-learn's maximum-likelihood fit.
# Seen (abess 0.4.11, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11, Linux x86-64), deviance of abess, optimum on the same columns:
#   Poisson, 4 of 5 columns, plain: 243.2, 243.2
#   Poisson, 5 of 5 columns, plain: 783.8, 243.0
#   Poisson, 5 of 5 columns, more: 783.8, 243.0
#   Poisson, 5 of 5 columns, newton: 243.0, 243.0
#   Poisson, all 5 columns matter: 4 chosen by default, 5 of sizes up to 5
#   logistic, 5 of 5 columns: coefficients apart by 0.00000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check abess==0.4.11 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import numpy
from abess import LogisticRegression, PoissonRegression
from sklearn import linear_model

rng = numpy.random.default_rng(0)
ROWS, COLUMNS = 200, 5
rows = rng.normal(size=(ROWS, COLUMNS))
rates = numpy.exp(rows[:, :3] @ [0.5, -0.4, 0.3] + 0.5)
counts = rng.poisson(rates).astype(float)


def deviance(coefficients, intercept, counts=counts):
    means = numpy.exp(rows @ coefficients + intercept)
    return 2 * numpy.sum(numpy.where(counts > 0, counts * numpy.log(numpy.maximum(counts, 1) / means), 0) - (counts - means))


options = {"newton": {"approximate_Newton": True}, "more": {"primary_model_fit_max_iter": 1000}, "plain": {}}
best = linear_model.PoissonRegressor(alpha=0, tol=1e-10, max_iter=10000)
for size, kind in ((4, "plain"), (5, "plain"), (5, "more"), (5, "newton")):
    model = PoissonRegression(support_size=size, **options[kind]).fit(rows, counts)
    chosen = numpy.flatnonzero(model.coef_)
    best.fit(rows[:, chosen], counts)
    full = numpy.zeros(COLUMNS)
    full[chosen] = best.coef_
    found, wanted = deviance(model.coef_, model.intercept_), deviance(full, best.intercept_)
    print(f"Poisson, {len(chosen)} of 5 columns, {kind}: {found:.1f}, {wanted:.1f}")
    assert (found > 2 * wanted) == (size == 5 and kind != "newton"), "the behaviour has changed"

needed = rng.poisson(numpy.exp(rows @ [0.5, -0.4, 0.3, 0.3, -0.3] + 0.5)).astype(float)
chosen = [PoissonRegression(support_size=sizes).fit(rows, needed).coef_ for sizes in (None, range(COLUMNS + 1))]
counted = [int((coefficients != 0).sum()) for coefficients in chosen]
print(f"Poisson, all 5 columns matter: {counted[0]} chosen by default, {counted[1]} of sizes up to 5")
assert counted == [4, 5], "the behaviour has changed"

binary = (counts > 1).astype(int)
best = linear_model.LogisticRegression(C=numpy.inf, tol=1e-10, max_iter=100000).fit(rows, binary)
apart = abs(LogisticRegression(support_size=COLUMNS).fit(rows, binary).coef_ - best.coef_).max()
print(f"logistic, 5 of 5 columns: coefficients apart by {apart:.5f}")
assert apart < 1e-3, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
