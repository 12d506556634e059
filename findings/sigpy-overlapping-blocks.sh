#!/usr/bin/env bash
# SigPy 0.1.27: least squares over overlapping blocks multiplies each entry by the number of blocks that hold it.
#
# Behaviour: a linear operator has `.N`, which is to be A^H A. `ArrayToBlocks` and `BlocksToArray` return the identity for it, also
# where blocks overlap, where A^H A is the number of blocks that hold an entry (or where they leave gaps: 0).
# `LinearLeastSquares` uses `.N` for three of its four solvers. They take the blocks of a signal and return a signal four
# times too large in the middle; `PrimalDualHybridGradient` returns the signal, and so do all with `Identity * A`
# for A. `MaxEig(A.N)`, by which step sizes are chosen, says 1 where the largest eigenvalue is 4.
# Guess before: `A.N` is `A.H * A` for every operator, and the four solvers agree.
# Seen (SigPy 0.1.27, NumPy 2.4.6, Python 3.11, Linux x86-64), nine entries, blocks of four with stride 1:
#   ConjugateGradient: found / signal 1 2 3 4 4 4 3 2 1
#   GradientMethod: found / signal 1 2 3 4 4 4 3 2 1
#   ADMM: found / signal 1 2 3 4 4 4 3 2 1
#   PrimalDualHybridGradient: found / signal 1 1 1 1 1 1 1 1 1
#   ConjugateGradient, Identity * A: found / signal 1 1 1 1 1 1 1 1 1
#   largest eigenvalue: A.N 1.00, A.H * A 4.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 numba==0.68.1 PyWavelets==1.9.0 sigpy==0.1.27
cat > "$folder/look.py" <<'PY'
import numpy as np
import sigpy as sp

signal = np.random.default_rng(0).normal(size=9)
blocks = sp.linop.ArrayToBlocks((9,), (4,), (1,))
overlaps = np.array([1, 2, 3, 4, 4, 4, 3, 2, 1])
data = blocks(signal)
assert np.allclose(blocks.H(data), overlaps * signal), "the behaviour has changed"


def found(operator, solver):
    app = sp.app.LinearLeastSquares(operator, data, solver=solver, max_iter=2000, show_pbar=False)
    return np.round(app.run() / signal, 3)


for solver in ("ConjugateGradient", "GradientMethod", "ADMM", "PrimalDualHybridGradient"):
    ratio = found(blocks, solver)
    print(f"{solver}: found / signal {' '.join(f'{number:.3g}' for number in ratio)}")
    wanted = 1 if solver == "PrimalDualHybridGradient" else overlaps
    assert np.allclose(ratio, wanted, atol=1e-3), "the behaviour has changed"
ratio = found(sp.linop.Identity(blocks.oshape) * blocks, "ConjugateGradient")
print(f"ConjugateGradient, Identity * A: found / signal {' '.join(f'{number:.3g}' for number in ratio)}")
assert np.allclose(ratio, 1, atol=1e-3), "the behaviour has changed"

eigenvalues = [float(sp.app.MaxEig(operator, show_pbar=False).run()) for operator in (blocks.N, blocks.H * blocks)]
print(f"largest eigenvalue: A.N {eigenvalues[0]:.2f}, A.H * A {eigenvalues[1]:.2f}")
assert np.allclose(eigenvalues, [1, 4], atol=1e-2), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
