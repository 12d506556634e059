#!/usr/bin/env bash
# blosc2 4.14.1: in `lazyexpr`, -(a**2) is a**2, powers associate to the left, and `remainder` is not Python's.
#
# Behaviour: `lazyexpr` takes an expression as a text and computes it chunk by chunk. A minus before a power belongs to
# the base there, also where brackets say otherwise: `-(a**2)` has the wrong sign, for floats and integers. `a**b**a` is
# `(a**b)**a`. The remainder of negative numbers is C's, in expressions, by the operator and by `blosc2.remainder`,
# which is "equivalent to the Python modulus operator"; in an expression that has a `//` too it is Python's. Nothing is
# said. Written with operators on the array the power is right.
# Guess before: every expression is what NumPy computes.
# Seen (blosc2 4.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), of a = [-3.0, 0.5, 2.0]:
#   -a**2: [9.0, 0.25, 4.0], by NumPy [-9.0, -0.25, -4.0]
#   -(a**2): [9.0, 0.25, 4.0], by NumPy [-9.0, -0.25, -4.0]
#   1 - (a**2): [-8.0, 0.75, -3.0], by NumPy [-8.0, 0.75, -3.0]
#   2 * -(a**2): [18.0, 0.5, 8.0], by NumPy [-18.0, -0.5, -8.0]
#   abs(a)**2**a: [0.001, 0.5, 16.0], by NumPy [1.147, 0.375, 16.0]
#   a % 2: [-1.0, 0.5, 0.0], by NumPy [1.0, 0.5, 0.0]
#   a // 2: [-2.0, 0.0, 1.0], by NumPy [-2.0, 0.0, 1.0]
#   a // 2 * 2 + a % 2: [-3.0, 0.5, 2.0], by NumPy [-3.0, 0.5, 2.0]
#   remainder(a, 2): [-1.0, 0.5, 0.0], by NumPy [1.0, 0.5, 0.0]
#   -(a**2) by operators: [-9.0, -0.25, -4.0]
#   exp(-(a**2)) of 64 x 64 numbers: 1.000 to 4014764.250, by NumPy 0.000 to 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check blosc2==4.14.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import blosc2
import numpy

row = numpy.array([-3.0, 0.5, 2.0])
stored = blosc2.asarray(row)
CASES = [("-a**2", False), ("-(a**2)", False), ("1 - (a**2)", True), ("2 * -(a**2)", False), ("abs(a)**2**a", False)]
CASES += [("a % 2", False), ("a // 2", True), ("a // 2 * 2 + a % 2", True)]
for text, right in CASES:
    found = blosc2.lazyexpr(text, {"a": stored})[:]
    wanted = eval(text, {"a": row, "abs": abs})
    print(f"{text}: {found.round(3).tolist()}, by NumPy {wanted.round(3).tolist()}")
    assert numpy.allclose(found, wanted) == right, "the behaviour has changed"
found = blosc2.remainder(stored, 2)[:]
print(f"remainder(a, 2): {found.tolist()}, by NumPy {numpy.remainder(row, 2).tolist()}")
assert not numpy.allclose(found, row % 2), "the behaviour has changed"
found = (-(stored**2))[:]
print(f"-(a**2) by operators: {found.tolist()}")
assert numpy.allclose(found, -(row**2)), "the behaviour has changed"
kernel = numpy.random.default_rng(0).normal(size=(64, 64)).astype(numpy.float32)
blocks = blosc2.asarray(kernel, chunks=(16, 16))
found, wanted = blosc2.lazyexpr("exp(-(a**2))", {"a": blocks})[:], numpy.exp(-(kernel**2))
print(
    f"exp(-(a**2)) of 64 x 64 numbers: {found.min():.3f} to {found.max():.3f}, by NumPy {wanted.min():.3f} to {wanted.max():.3f}"
)
assert found.min() >= 1 >= wanted.max(), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
