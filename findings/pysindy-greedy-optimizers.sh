#!/usr/bin/env bash
# pysindy 2.1.0: SSR returns one term where all are needed, FROLS lets equations choose each other's terms, SR3 tells another objective.
#
# Behaviour: SSR keeps the model of each step and picks one. Of the first, with all terms, it keeps no copy, and the steps overwrite it:
# where the full model is the best, the last one, of one term, is returned. FROLS adds error reductions up over the equations, not over the
# steps (the comment above the line says steps): an equation gets terms that it lacks, because another one fitted beside it has them. Its
# ridge penalty acts on the orthogonalised system, whose diagonal is 1 however many rows there are: alpha = 1 halves coefficients that the
# documented objective leaves as they are; `unbias=True`, the default, refits and hides that. SR3's `objective_history` counts half of the
# penalty, of the dense coefficients in place of the sparse ones: it is another number than its objective, and rises. Nothing is said.
# Guess before: the best of the steps is returned, equations are independent, alpha is Ridge's, and the history is of the objective.
# Seen (pysindy 2.1.0, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64):
#   SSR, four terms of four: errors 4, 402, 2083, 3536; terms of the models kept [1, 3, 2, 1]
#     chosen: 1 term, error 3536
#   FROLS, equations of 3, 2 and 1 terms: found alone [3, 2, 1], together [3, 3, 3]
#   FROLS, alpha = 1: coefficients 1.44, 0.93, 0.50; minimum of ||y - Xw||^2 + ||w||^2: 3.00, 1.99, 1.00
#   SR3: objective 65.9, objective_history 107.2 ... 105.9, rises in 6 steps
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    pysindy==2.1.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from pysindy.optimizers import FROLS, SR3, SSR
from sklearn.linear_model import Ridge

rng = np.random.default_rng(0)


def count(coefficients):
    return [int(number) for number in (np.atleast_2d(coefficients) != 0).sum(1)]


inputs = rng.normal(size=(400, 4))
outputs = inputs @ [[3.0], [2.0], [1.0], [-2.0]] + 0.1 * rng.normal(size=(400, 1))
steps = SSR().fit(inputs, outputs)
errors = [float(error) for error in steps.err_history_]
terms = [count(model)[0] for model in steps.history_]
rest = float(((outputs - inputs @ steps.coef_.T) ** 2).sum())
print(
    f"SSR, four terms of four: errors {', '.join(f'{error:.0f}' for error in errors)}; terms of the models kept {terms}"
)
print(f"  chosen: {count(steps.coef_)[0]} term, error {rest:.0f}")
assert terms == [1, 3, 2, 1] and count(steps.coef_) == [1] and rest > 100 * errors[0], "the behaviour has changed"

inputs = rng.normal(size=(400, 10))
planted = np.zeros((10, 3))
planted[[0, 1, 2], 0], planted[[3, 4], 1], planted[5, 2] = [3, 2, 1], [2, 1], 1
outputs = inputs @ planted + 0.1 * rng.normal(size=(400, 3))
alone = [count(FROLS(kappa=0.01).fit(inputs, outputs[:, [each]]).coef_)[0] for each in range(3)]
together = count(FROLS(kappa=0.01).fit(inputs, outputs).coef_)
print(f"FROLS, equations of 3, 2 and 1 terms: found alone {alone}, together {together}")
assert alone == [3, 2, 1] and together == [3, 3, 3], "the behaviour has changed"

found = FROLS(max_iter=3, alpha=1.0, unbias=False).fit(inputs, outputs[:, [0]]).coef_[0, :3]
wanted = Ridge(alpha=1.0, fit_intercept=False).fit(inputs[:, :3], outputs[:, 0]).coef_
words = [", ".join(f"{value:.2f}" for value in values) for values in (found, wanted)]
print(f"FROLS, alpha = 1: coefficients {words[0]}; minimum of ||y - Xw||^2 + ||w||^2: {words[1]}")
assert found[0] < 1.7 and abs(wanted - [3, 2, 1]).max() < 0.05, "the behaviour has changed"

settings = {"regularizer": "L1", "relax_coeff_nu": 0.1, "max_iter": 500, "tol": 1e-9, "unbias": False}
relaxed = SR3(reg_weight_lam=20.0, **settings).fit(inputs, outputs[:, [0]])
full, sparse = relaxed.coef_full_.T, relaxed.coef_.T
value = (
    0.5 * ((outputs[:, [0]] - inputs @ full) ** 2).sum()
    + 20 * abs(sparse).sum()
    + 0.5 / 0.1 * ((full - sparse) ** 2).sum()
)
told = [float(value) for value in relaxed.objective_history]
rises = int((np.diff(told) > 0).sum())
print(f"SR3: objective {value:.1f}, objective_history {told[0]:.1f} ... {told[-1]:.1f}, rises in {rises} steps")
assert told[-1] > 1.2 * value, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
