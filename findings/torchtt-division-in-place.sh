#!/usr/bin/env bash
# torchTT 0.5.0: `a / 2` halves a itself; padding with a constant fills in other numbers.
#
# Behaviour: dividing a tensor train or a TT matrix by a number copies the list of its cores, not the cores, and divides the
# first one in place. The result shares all cores with the operand, which is divided too: normalising by `a / a.norm()`
# leaves a with norm 1, and each further division goes on from there. `a * 0.5`, `a + b` and `1 / a` leave a as it is.
# `torchtt.pad(a, ..., value=2)` is to pad by the constant 2 (`pad` of its documentation). Its cores beside the last one get
# ones, so that new entries are sums of products of the other cores, other than 2. Zeros, the default, are right.
# Guess before: an operator without `=` changes no operand, and each new entry of a padded tensor is the constant.
# Seen (torchTT 0.5.0, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   a * 0.5: the result is right, a afterwards has 1.000 of its norm
#   a + a: the result is right, a afterwards has 1.000 of its norm
#   -a: the result is right, a afterwards has 1.000 of its norm
#   a / 2: the result is right, a afterwards has 0.500 of its norm
#   a / a.norm(): the result is right, a afterwards has 0.043 of its norm
#   a TT matrix after `a / 2`: 0.500 of its norm
#   padded with 0: 100% of the new entries are it, they go from 0.00 to 0.00
#   padded with 2: 3% of the new entries are it, they go from -6.82 to 4.92
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scipy==1.17.1 opt_einsum==3.4.0 \
    setuptools==84.2.1 setuptools-scm wheel ninja
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation torchTT==0.5.0  # its build imports torch
cat > "$folder/look.py" <<'PY'
import torch
import torchtt

torch.manual_seed(0)
shape, ranks = [4, 5, 6], [1, 3, 2, 1]
OPERATIONS = {
    "a * 0.5": lambda a: a * 0.5,
    "a + a": lambda a: a + a,
    "-a": lambda a: -a,
    "a / 2": lambda a: a / 2,
    "a / a.norm()": lambda a: a / a.norm(),
}
for title, operation in OPERATIONS.items():
    tensor = torchtt.random(shape, ranks, dtype=torch.float64)
    before = tensor.full().clone()
    result = operation(tensor).full()
    left = float(tensor.full().norm() / before.norm())
    right = torch.allclose(result, operation(before) if "norm" not in title else before / before.norm())
    print(f"{title}: the result is {'right' if right else 'wrong'}, a afterwards has {left:.3f} of its norm")
    assert right, "the behaviour has changed"
    changed = "/" in title
    assert (abs(left - 1) > 0.1) == changed, "the behaviour has changed"

operator = torchtt.random([(4, 3), (5, 2)], [1, 2, 1], dtype=torch.float64)
before = operator.full().clone()
operator / 2
left = float(operator.full().norm() / before.norm())
print(f"a TT matrix after `a / 2`: {left:.3f} of its norm")
assert abs(left - 0.5) < 1e-9, "the behaviour has changed"

tensor = torchtt.random(shape, ranks, dtype=torch.float64)
for value in (0.0, 2.0):
    padded = torchtt.pad(tensor, ((0, 1), (0, 2), (0, 3)), value).full()
    inside = torch.zeros_like(padded, dtype=torch.bool)
    inside[:4, :5, :6] = True
    assert torch.allclose(padded[:4, :5, :6], tensor.full()), "the behaviour has changed"
    new = padded[~inside]
    share = float((new - value).abs().lt(1e-9).double().mean())
    print(f"padded with {value:.0f}: {share:.0%} of the new entries are it, they go from {float(new.min()):.2f} to {float(new.max()):.2f}")
    assert share == 1 if value == 0 else share < 0.2, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
