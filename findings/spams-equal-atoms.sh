#!/usr/bin/env bash
# spams-bin 2.6.12, `spams.lasso` (mode 2) and `spams.omp`: two equal atoms give wrong codes, without a word.
#
# Behaviour: where two atoms of the dictionary are equal (or nearly so), `lasso` returns codes that break the
# optimality conditions by many times the penalty in most rows, and `omp` stops before the wanted number of atoms.
# Without the second atom both are right, and the optimum is the same. Two atoms that are equal come up while a
# dictionary is learned (two atoms that converge), and when atoms are drawn from kernels that repeat.
# Guess before: one of the two is taken and the other stays zero; the codes are optimal.
# Seen (spams-bin 2.6.12, NumPy 2.2.6, Python 3.11, Linux x86-64; 200 rows, d = 9, penalty 0.1):
#   lasso, 12 distinct atoms: 0 of 200 rows off by more than 1 % of the penalty
#   lasso, two of them equal: 130 of 200 rows, at worst 25.4 times the penalty
#   omp with L=9: 9 atoms in every row; two of them equal: fewer than 9 in 42 rows, at least 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 spams-bin==2.6.12
cat > "$folder/look.py" <<'PY'
import numpy
import spams

rng = numpy.random.default_rng(0)
atoms = rng.standard_normal((9, 12))
atoms /= numpy.linalg.norm(atoms, axis=0)
rows = numpy.asfortranarray(rng.standard_normal((9, 200)))
penalty = 0.1


def violation(atoms: numpy.ndarray) -> numpy.ndarray:
    """Largest violation of the optimality conditions of each row of 1/2 |x - D z|^2 + l |z|_1."""
    codes = spams.lasso(rows, D=numpy.asfortranarray(atoms), lambda1=penalty, mode=2, numThreads=1).toarray()
    gradient = atoms.T @ (atoms @ codes - rows)
    off = numpy.maximum(numpy.abs(gradient) - penalty, 0)
    return numpy.where(codes != 0, numpy.abs(gradient + penalty * numpy.sign(codes)), off).max(0)


def counts(atoms: numpy.ndarray) -> numpy.ndarray:
    codes = spams.omp(rows, numpy.asfortranarray(atoms), L=9, eps=0.0, numThreads=1).toarray()
    return (codes != 0).sum(0)


twins = atoms.copy()
twins[:, 5] = twins[:, 4]
plain, double = violation(atoms), violation(twins)
bad = [(each > 0.01 * penalty).sum() for each in (plain, double)]
print(f"lasso, 12 distinct atoms: {bad[0]} of 200 rows off by more than 1 % of the penalty")
print(f"lasso, two of them equal: {bad[1]} of 200 rows, at worst {double.max() / penalty:.1f} times the penalty")
few = counts(twins)
print(f"omp with L=9: {counts(atoms).min()} atoms in every row; two of them equal: "
      f"fewer than 9 in {(few < 9).sum()} rows, at least {few.min()}")
assert bad[0] == 0, "distinct atoms were right"
assert bad[1] > 50, "equal atoms were wrong"
assert double.max() > 5 * penalty, "equal atoms were wrong by much"
assert counts(atoms).min() == 9, "distinct atoms were right"
assert few.min() < 9, "pursuit stopped early"
PY
"$folder/venv/bin/python" "$folder/look.py"
