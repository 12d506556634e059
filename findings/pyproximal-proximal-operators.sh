#!/usr/bin/env bash
# pyproximal 0.13.0: `prox` of Huber, L0, Log1 and two more does not minimise what the same object returns as its value.
#
# Behaviour: the proximal operator of f at x with step t is the u that minimises f(u) + |u - x|^2 / (2 t). By the library's own values of
# f, other points are better for Huber, L0, Log1, RelaxedMumfordShah and QuadraticEnvelopeCardIndicator. `Huber.prox` divides its cases at
# |x| = alpha, where |x| = alpha + t divides them: it jumps, and a larger number comes back smaller, which no proximal operator of a convex
# function does. `L0` cuts at t sigma instead of sqrt(2 t sigma), and its value forgets sigma, as Log1's does. The value of
# RelaxedMumfordShah is one minimum over the whole array, its operator takes one for each number. QuadraticEnvelopeCardIndicator(k) with
# t >= 1 cuts at sqrt(2 t) instead of keeping the k largest numbers: it may return zeros alone. Nothing is said. L1, L2, L21, Euclidean,
# HuberCircular, ETP, Geman, Log, SCAD, Nuclear, TV, Sum and the projections are right, and so are skglm's penalties. (Issue 189 of
# PyLops/pyproximal said of Huber's in 2024 that it "seems wrong"; it is closed, and the operator is as it was.)
# Guess before: every `prox` minimises its own value, of non-convex ones too.
# Seen (pyproximal 0.13.0, pylops 2.8.0, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   Huber, alpha 1, step 1: 0.99 -> 0.495, 1.01 -> 0.010, 2.00 -> 1.000
#   L1                              value and distance at prox 4.8350, lowest seen 4.8350
#   HuberCircular                   value and distance at prox 3.4882, lowest seen 3.4882
#   SCAD                            value and distance at prox 3.8256, lowest seen 3.8256
#   Huber                           value and distance at prox 5.0496, lowest seen 4.9052: not the minimum
#   L0                              value and distance at prox 4.1450, lowest seen 3.7500: not the minimum
#   Log1                            value and distance at prox -2.3188, lowest seen -5.4715: not the minimum
#   RelaxedMumfordShah              value and distance at prox 0.7552, lowest seen 0.5000: not the minimum
#   QuadraticEnvelopeCardIndicator  value and distance at prox 1.8820, lowest seen 0.4060: not the minimum
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyproximal==0.13.0 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import numpy
import pyproximal

huber = pyproximal.Huber(1.0)
told = {x: float(huber.prox(numpy.array([x]), 1.0)[0]) for x in (0.99, 1.01, 2.0)}
print("Huber, alpha 1, step 1: " + ", ".join(f"{x:.2f} -> {u:.3f}" for x, u in told.items()))
assert told[0.99] > 0.4 and told[1.01] < 0.1, "the behaviour has changed"

ROW = numpy.array([-3.0, -1.6, -0.5, 0.2, 1.1, 2.4])
CASES = [
    (pyproximal.L1(0.7), 1.0, True),
    (pyproximal.HuberCircular(0.7), 1.0, True),
    (pyproximal.SCAD(0.7), 1.0, True),
    (pyproximal.Huber(0.7), 1.0, False),
    (pyproximal.L0(1.0), 1.0, False),
    (pyproximal.Log1(0.7, 0.1), 1.0, False),
    (pyproximal.RelaxedMumfordShah(0.7, 0.5), 1.0, False),
    (pyproximal.QuadraticEnvelopeCardIndicator(2), 5.0, False),
]
rng = numpy.random.default_rng(0)
for operator, step, right in CASES:
    at = operator.prox(ROW.copy(), step)
    others = [ROW, 0 * ROW, *(numpy.where(numpy.abs(ROW) >= cut, ROW, 0) for cut in numpy.abs(ROW))]
    others += [at + size * rng.normal(size=6) for size in (1e-3, 1e-2, 0.1, 0.5) for _ in range(2000)]
    objective = [float(operator(u)) + float(numpy.sum((u - ROW) ** 2)) / (2 * step) for u in [at, *others]]
    minimum = objective[0] <= min(objective) + 1e-6
    name = type(operator).__name__
    words = f"value and distance at prox {objective[0]:.4f}, lowest seen {min(objective):.4f}"
    print(f"{name:31} {words}{'' if minimum else ': not the minimum'}")
    assert minimum == right, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
