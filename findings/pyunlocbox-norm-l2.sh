#!/usr/bin/env bash
# pyunlocbox 0.6.1: the proximal operator of `norm_l2` with a matrix A and no y turns a vector into a matrix.
#
# Behaviour: without `y` the function is lambda |A x|^2 ("default is 0"). Its closed proximal operator adds A^T y with the number 0 for y:
# `A.T.dot(0)` is a matrix of zeros, to which the vector is added row by row. A vector of 8 comes back as 8 x 8, with a value of the
# library's own objective far above the minimum. With a vector of zeros for `y`, or with tight=False, the result is right. L1, total
# variation, structured sparsity and the projections minimise their own value.
# The nuclear norm's operator takes square matrices only, though its value takes any.
# Guess before: every operator minimises its own value, and y=None is y=0.
# Seen (pyunlocbox 0.6.1, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   norm_l2 of an orthogonal A: no y (8, 8), y of zeros (8,), tight=False (8,); value at the first 46.26, at the second 5.78
#   norm_nuclear: 5 x 5 minimises its value, 5 x 6 ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyunlocbox==0.6.1 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import numpy
from pyunlocbox import functions

STEP = 0.7
rng = numpy.random.default_rng(0)
row = 2 * rng.normal(size=8)
matrix = numpy.linalg.qr(rng.normal(size=(8, 8)))[0]
quiet = {"verbosity": "NONE"}
cases = {"no y": {}, "y of zeros": {"y": numpy.zeros(8)}, "tight=False": {"tight": False}}
norms = {name: functions.norm_l2(A=matrix, **options, **quiet) for name, options in cases.items()}
at = {name: norm.prox(row.copy(), STEP) for name, norm in norms.items()}
values = {name: norm.eval(at[name]) + numpy.sum((at[name] - row) ** 2) / (2 * STEP) for name, norm in norms.items()}
shapes = ", ".join(f"{name} {point.shape}" for name, point in at.items())
heights = f"value at the first {values['no y']:.2f}, at the second {values['y of zeros']:.2f}"
print(f"norm_l2 of an orthogonal A: {shapes}; {heights}")
assert at["no y"].shape == (8, 8) and at["y of zeros"].shape == (8,), "the behaviour has changed"
assert numpy.allclose(at["y of zeros"], at["tight=False"], atol=1e-4), "the behaviour has changed"
assert numpy.allclose(at["y of zeros"], row / (1 + 2 * STEP)), "the behaviour has changed"

nuclear = functions.norm_nuclear(lambda_=0.5, **quiet)
square = rng.normal(size=(5, 5))
point = nuclear.prox(square.copy(), STEP)
left, values, right = numpy.linalg.svd(square)
shrunk = left @ numpy.diag(numpy.maximum(values - 0.5 * STEP, 0)) @ right
assert numpy.allclose(point, shrunk), "the behaviour has changed"
try:
    nuclear.prox(rng.normal(size=(5, 6)), STEP)
    word = "works"
except ValueError:
    word = "ValueError"
print(f"norm_nuclear: 5 x 5 minimises its value, 5 x 6 {word}")
assert word == "ValueError", "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
