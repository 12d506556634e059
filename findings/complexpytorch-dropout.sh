#!/usr/bin/env bash
# complexPyTorch 0.4: complex dropout scales what it keeps twice, so that training sees values 1 / (1 - p) times those of evaluation.
#
# Behaviour: `ComplexDropout` and `ComplexDropout2d` draw a mask with torch's dropout, which already divides by 1 - p, and divide it
# by 1 - p again. The mean of the output is 1 / (1 - p) times the input: twice at p = 0.5, five times at 0.8. In evaluation
# the input passes unchanged, so a layer behind learns from values that it never sees again. `ComplexBatchNorm` starts with weights of
# the square root of 2 where the paper it names (Trabelsi et al., 2018) takes one over it: the mean square is 4, not 1, and
# fresh running statistics, square root of 2 too, give 1.41 in evaluation for an input of mean square 1. Nothing is said.
# Guess before: as torch's dropout, the mean stays; a batch norm gives a mean square of 1 as in the paper, or 2 (1 in each part).
# Seen (complexPyTorch 0.4, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), mean of an input of ones:
#   p = 0.1: ComplexDropout 1.11, ComplexDropout2d 1.11, torch 1.00, in evaluation 1.00
#   p = 0.5: ComplexDropout 2.00, ComplexDropout2d 2.00, torch 1.00, in evaluation 1.00
#   p = 0.8: ComplexDropout 5.01, ComplexDropout2d 5.01, torch 1.00, in evaluation 1.00
#   batch norm, mean square of an input of mean square 1.00: in training 4.00, in evaluation before any training 1.41
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 complexPyTorch==0.4
cat > "$folder/look.py" <<'PY'
import torch
from complexPyTorch.complexLayers import ComplexBatchNorm2d, ComplexDropout, ComplexDropout2d

torch.manual_seed(0)
ones = torch.ones(1000, 1000, 1, 1, dtype=torch.complex64)
for p in (0.1, 0.5, 0.8):
    seen = [float(layer(p)(ones).real.mean()) for layer in (ComplexDropout, ComplexDropout2d)]
    plain = float(torch.nn.Dropout(p)(ones.real).mean())
    still = float(ComplexDropout(p).eval()(ones).real.mean())
    print(f"p = {p}: ComplexDropout {seen[0]:.2f}, ComplexDropout2d {seen[1]:.2f}, torch {plain:.2f}, in evaluation {still:.2f}")
    assert max(abs(value - 1 / (1 - p)) for value in seen) < 0.03, "the behaviour has changed"
    assert abs(plain - 1) < 0.02 and still == 1, "the behaviour has changed"


def mean_square(numbers):
    return float((numbers.abs() ** 2).mean())


values = torch.randn(100, 8, 16, 16, dtype=torch.complex64)
fresh = mean_square(ComplexBatchNorm2d(8).eval()(values))
training = mean_square(ComplexBatchNorm2d(8)(values))
print(
    f"batch norm, mean square of an input of mean square {mean_square(values):.2f}: in training {training:.2f}, "
    f"in evaluation before any training {fresh:.2f}"
)
assert abs(training - 4) < 0.02 and abs(fresh - 2**0.5) < 0.02, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
