#!/usr/bin/env bash
# factor-analyzer 0.5.1: the correlations of oblique factors stand in another order than the factors, and three rotations rotate nothing.
#
# Behaviour: `fit` sorts the columns of `loadings_` and `structure_` by variance, and leaves `phi_` and `rotation_matrix_` in the order before.
# So with three factors or more, also by the default promax, the correlation told for two factors is that of two others. Communalities, and
# the uniquenesses and variances that rest on them, are sums of squared loadings, which hold for uncorrelated factors only. "oblimin" with any
# `gamma` but 0, and "oblimax", return the loadings as they came: the criterion of the one is constant, that of the other has the wrong
# sign. "equamax" is quartimax until `kappa` is given. Nothing is said.
# Guess before: loadings, `phi_` and uniquenesses make up the correlation matrix again after each rotation; each rotation lowers its criterion.
# Seen (factor-analyzer 0.5.1, scikit-learn 1.7.2, NumPy 2.4.6, Python 3.11, Linux x86-64), the exact correlation matrix of four factors:
#   promax: largest error of the correlations made from loadings and phi_ 0.30, with phi_ put in order 0.000
#   oblimin: largest error of the correlations made from loadings and phi_ 0.31, with phi_ put in order 0.000
#   oblimin: factors 1 and 2 correlate by 0.67 (planted 0.60), phi_ says 0.12 of their columns
#   oblimin: communality of a variable of two factors 0.81, get_communalities says 0.53
#   oblimin, gamma 0: largest change of a loading 0.654, by statsmodels 0.654
#   oblimin, gamma 0.0001: largest change of a loading 0.000, by statsmodels 0.654
#   oblimin, gamma -0.5: largest change of a loading 0.000, by statsmodels 0.592
#   oblimax: sum of fourth powers 2.493, after the rotation 2.495
#   quartimax: sum of fourth powers 2.493, after the rotation 4.192
#   equamax: sum of fourth powers 2.493, after the rotation 4.192
#   varimax: sum of fourth powers 2.493, after the rotation 4.012
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check factor-analyzer==0.5.1 scikit-learn==1.7.2 numpy==2.4.6 scipy==1.17.1 \
  pandas==3.1.1 statsmodels==0.15.0
cat > "$folder/look.py" <<'PY'
import numpy as np
from factor_analyzer import FactorAnalyzer, Rotator
from statsmodels.multivariate.factor_rotation import rotate_factors

# 18 variables of four correlated factors; each variable has one factor, but for the first, which has two.
rng = np.random.default_rng(0)
factor = np.repeat(range(4), (3, 4, 5, 6))
loadings = np.eye(4)[factor] * rng.uniform(0.6, 0.8, (18, 1))
loadings[0, :2] = 0.6, 0.4
between = np.array([[1, 0.6, 0.1, 0.2], [0.6, 1, 0.3, 0], [0.1, 0.3, 1, 0.5], [0.2, 0, 0.5, 1]])
common = loadings @ between @ loadings.T
correlations = common - np.diag(common.diagonal()) + np.eye(18)
off = ~np.eye(18, dtype=bool)
given = {"n_factors": 4, "is_corr_matrix": True, "bounds": (1e-6, 1)}


def error(pattern, phi):
    return float(abs(pattern @ phi @ pattern.T - correlations)[off].max())


for rotation in ("promax", "oblimin"):
    fitted = FactorAnalyzer(rotation=rotation, **given).fit(correlations)
    # The structure matrix is the loadings times the right correlations, and stands in the right order.
    ordered = np.linalg.lstsq(fitted.loadings_, fitted.structure_, rcond=None)[0]
    wrong, right = error(fitted.loadings_, fitted.phi_), error(fitted.loadings_, ordered)
    words = f"{wrong:.2f}, with phi_ put in order {right:.3f}"
    print(f"{rotation}: largest error of the correlations made from loadings and phi_ {words}")
    assert wrong > 0.25 and right < 0.005, "the behaviour has changed"
    assert np.allclose(np.sort(ordered.ravel()), np.sort(fitted.phi_.ravel())), "the behaviour has changed"
column = [int(np.argmax([(fitted.loadings_[factor == one, k] ** 2).sum() for k in range(4)])) for one in range(4)]
wanted, told = (phi[column[0], column[1]] for phi in (ordered, fitted.phi_))
print(f"oblimin: factors 1 and 2 correlate by {wanted:.2f} (planted {between[0, 1]:.2f}), phi_ says {told:.2f} of their columns")
assert wanted > 0.55 and told < 0.2, "the behaviour has changed"
told = fitted.get_communalities()[0]
print(f"oblimin: communality of a variable of two factors {common[0, 0]:.2f}, get_communalities says {told:.2f}")
assert abs((fitted.loadings_ * fitted.structure_).sum(1)[0] - common[0, 0]) < 0.01 < 0.2 < common[0, 0] - told, "the behaviour has changed"

unrotated = FactorAnalyzer(rotation=None, **given).fit(correlations).loadings_
for gamma in (0, 0.0001, -0.5):
    found = Rotator(method="oblimin", gamma=gamma).fit_transform(unrotated)
    wanted = rotate_factors(unrotated, "oblimin", gamma, "oblique")[0]
    moved, expected = (float(abs(rotated - unrotated).max()) for rotated in (found, wanted))
    print(f"oblimin, gamma {gamma}: largest change of a loading {moved:.3f}, by statsmodels {expected:.3f}")
    assert expected > 0.1 and ((moved > 0.1) if gamma == 0 else (moved < 1e-3)), "the behaviour has changed"
rotated = {method: Rotator(method=method).fit_transform(unrotated) for method in ("oblimax", "quartimax", "equamax", "varimax")}
for method, found in rotated.items():
    print(f"{method}: sum of fourth powers {(unrotated**4).sum():.3f}, after the rotation {(found**4).sum():.3f}")
assert (rotated["oblimax"] ** 4).sum() < 1.01 * (unrotated**4).sum() < 0.8 * (rotated["quartimax"] ** 4).sum(), "the behaviour has changed"
assert np.allclose(rotated["equamax"], rotated["quartimax"], atol=1e-4), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
