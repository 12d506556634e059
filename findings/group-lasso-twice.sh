#!/usr/bin/env bash
# group-lasso 1.5.0: both penalties count twice, and "not regularised" columns are regularised.
#
# Behaviour: the gradient step takes half of the gradient and the proximal step the whole penalty, so `fit` converges, to any
# tolerance, to the minimum of squared error / 2 + twice the penalties. By the library's own `loss` another point is better. A column with
# group -1, which "should not be regularised", still gets the L1 penalty. `loss(X, y)` of a `y` with one axis, which its docstring
# allows and `fit` takes, subtracts every target from every prediction. Nothing is said. scikit-learn's Lasso at twice the
# penalty is the same solution to seven digits.
# Guess before: FISTA converges to the minimum of the loss that the class returns.
# Seen (group-lasso 1.5.0, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   L1 penalty 0.1, first coefficients: group-lasso 1.7374 -0.7838 0.7973 0.3490
#   scikit-learn at 0.1: 1.8485 -0.9107 0.9023 0.4305, at 0.2: 1.7374 -0.7838 0.7973 0.3490
#   group penalty 0.2: own loss 1.0438 at the fit, 0.9429 at the fit of penalty 0.1
#   column of group -1 with L1 penalty 0.1: 0.0000, without: 0.0897
#   own loss of y with one axis 388.24, with two 0.49
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check group-lasso==1.5.0 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import numpy
from group_lasso import GroupLasso
from sklearn.linear_model import Lasso

rng = numpy.random.default_rng(0)
rows = rng.normal(size=(80, 12))
target = rows @ numpy.r_[2, -1, 1, 0.5, numpy.zeros(8)] + 0.3 * rng.normal(size=80) + 3
groups = numpy.repeat([0, 1, 2, 3], 3)


def fitted(group_reg, l1_reg, groups=groups):
    penalties = {"group_reg": group_reg, "l1_reg": l1_reg}
    model = GroupLasso(groups, **penalties, n_iter=20000, tol=1e-12, supress_warning=True, random_state=0)
    return model.fit(rows, target)


def first(coefficients):
    return " ".join(f"{value:.4f}" for value in coefficients.ravel()[:4])


found = fitted(0, 0.1)
once, twice = (Lasso(penalty, tol=1e-12, max_iter=100000).fit(rows, target).coef_ for penalty in (0.1, 0.2))
print(f"L1 penalty 0.1, first coefficients: group-lasso {first(found.coef_)}")
print(f"scikit-learn at 0.1: {first(once)}, at 0.2: {first(twice)}")
assert abs(found.coef_.ravel() - twice).max() < 1e-5, "the behaviour has changed"
assert abs(found.coef_.ravel() - once).max() > 0.1, "the behaviour has changed"

column = target[:, None]
there = fitted(0.2, 0).loss(rows, column)
other = fitted(0.1, 0)
other.group_reg_vector_ = fitted(0.2, 0).group_reg_vector_
elsewhere = other.loss(rows, column)
print(f"group penalty 0.2: own loss {there:.4f} at the fit, {elsewhere:.4f} at the fit of penalty 0.1")
assert elsewhere < there - 0.01, "the behaviour has changed"

free = numpy.where(groups == 3, -1, groups)
told = fitted(0.2, 0.1, free).coef_.ravel()[10]
unpenalised = fitted(0.2, 0, free).coef_.ravel()[10]
print(f"column of group -1 with L1 penalty 0.1: {told:.4f}, without: {unpenalised:.4f}")
assert told == 0 and abs(unpenalised) > 0.05, "the behaviour has changed"

flat, two = found.loss(rows, target), found.loss(rows, column)
print(f"own loss of y with one axis {flat:.2f}, with two {two:.2f}")
assert flat > 100 * two, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
