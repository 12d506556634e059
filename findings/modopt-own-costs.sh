#!/usr/bin/env bash
# ModOpt 1.7.2: the answer for the k-support norm depends on the step size; two operators report another cost than they minimise.
#
# Behaviour: a proximity operator takes `extra_factor`, by which the algorithms hand over their step. `KSupportNorm` uses it for
# two of its three lines (Algorithm 1 of McDonald et al.): the third, theta, leaves it out. Only with a step of 1 is the answer
# the minimiser. With any other, `ForwardBackward` ends at a point of higher cost and with other nonzeros, without a word.
# Its cost halves the squares of the largest entries but not the square of the sum of the others.
# The cost of `OrderedWeightedL1Norm` gives the largest weight to the smallest entry: the example in its documentation prints
# 50 where sum(w_i |x|_(i)) is 150. Its operator is right. A cost that is observed for convergence therefore
# rises while the true one falls.
# Guess before: each operator minimises 1/2 ||x - y||^2 + factor * cost(x), and the step leaves where an algorithm ends.
# Seen (ModOpt 1.7.2, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64):
#   ordered weighted L1 norm of 0, 5, 10, 15, 20 with weights 4, 3, 2, 1, 0: cost 50, by definition 150
#   k-support norm of nine entries: cost 22.002, by definition 11.001
#   operator with extra_factor 1.0: 4.0812, lowest near it 4.0812
#   operator with extra_factor 0.5: 3.5745, lowest near it 2.8680
#   operator with extra_factor 0.1: 4.4691, lowest near it 0.9092
#   ForwardBackward with step 1.0: ends at 2.5630, 5 nonzeros
#   ForwardBackward with step 0.5: ends at 2.5915, 2 nonzeros
#   ForwardBackward with step 0.1: ends at 2.5915, 2 nonzeros
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 modopt==1.7.2
cat > "$folder/look.py" <<'PY'
import contextlib
import io
import logging

import numpy as np

logging.disable(logging.CRITICAL)
with contextlib.redirect_stdout(io.StringIO()):
    from modopt.opt.algorithms import ForwardBackward
    from modopt.opt.gradient import GradBasic
    from modopt.opt.proximity import KSupportNorm, OrderedWeightedL1Norm

weights, entries = np.array([4, 3, 2, 1, 0]), np.array([0, 5, 10, 15, 20])
told = int(OrderedWeightedL1Norm(weights).cost(entries))
defined = int(weights @ np.sort(entries)[::-1])
print(f"ordered weighted L1 norm of 0, 5, 10, 15, 20 with weights 4, 3, 2, 1, 0: cost {told}, by definition {defined}")
assert (told, defined) == (50, 150), "the behaviour has changed"

random = np.random.default_rng(0)
WEIGHT, K = 0.7, 3


def half_squared_norm(x):
    """Half the squared k-support norm (Argyriou et al. 2012, proposition 2.1)."""
    size = np.sort(np.abs(x))[::-1]
    for r in range(K):
        kept, rest = size[: K - r - 1], size[K - r - 1 :].sum()
        if (not len(kept) or kept[-1] > rest / (r + 1)) and rest / (r + 1) >= size[K - r - 1]:
            return 0.5 * (np.sum(kept**2) + rest**2 / (r + 1))
    raise AssertionError


entries = 2 * random.normal(size=9)
told, defined = float(KSupportNorm(WEIGHT, K).cost(entries)), WEIGHT * half_squared_norm(entries)
print(f"k-support norm of nine entries: cost {told:.3f}, by definition {defined:.3f}")
assert told > 1.1 * defined, "the behaviour has changed"


def lowest(objective, x):
    """The lowest value that random changes of x lead to."""
    best = objective(x)
    for _ in range(20000):
        near = x + 10 ** random.uniform(-4, 0) * random.normal(size=x.shape) * (random.random(x.shape) < random.choice([0.2, 1]))
        if (value := objective(near)) < best:
            best, x = value, near
    return best


for factor in (1.0, 0.5, 0.1):
    found = KSupportNorm(WEIGHT, K).op(entries, extra_factor=factor)
    objective = lambda x: float(0.5 * np.sum((x - entries) ** 2) + factor * WEIGHT * half_squared_norm(x))  # noqa: B023, E731
    print(f"operator with extra_factor {factor}: {objective(found):.4f}, lowest near it {(low := lowest(objective, found)):.4f}")
    assert (objective(found) < low + 1e-4) if factor == 1 else (objective(found) > 1.1 * low), "the behaviour has changed"

matrix = random.normal(size=(20, 9))
matrix /= np.linalg.norm(matrix, 2)
data = matrix @ np.array([3.0, -2, 1, 0, 0, 0, 0, 0, 0]) + 0.1 * random.normal(size=20)
values = []
for step in (1.0, 0.5, 0.1):
    gradient = GradBasic(data.copy(), lambda x: matrix @ x, lambda y: matrix.T @ y)
    run = ForwardBackward(
        np.zeros(9), gradient, KSupportNorm(WEIGHT, K), cost=None, beta_param=step, auto_iterate=False, progress=False, verbose=False
    )
    with contextlib.redirect_stderr(io.StringIO()):
        run.iterate(max_iter=3000)
    values.append(float(0.5 * np.sum((matrix @ run.x_final - data) ** 2) + WEIGHT * half_squared_norm(run.x_final)))
    print(f"ForwardBackward with step {step}: ends at {values[-1]:.4f}, {np.count_nonzero(np.abs(run.x_final) > 1e-9)} nonzeros")
assert values[0] * 1.005 < min(values[1:]), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
