#!/usr/bin/env bash
# spams-bin 2.6.14: where torch was imported before it, each call changes how many threads torch works on afterwards.
#
# Behaviour: `numThreads` (-1 by default: all processors) is set for OpenMP and never set back. Each of the two packages
# brings an OpenMP of its own, but with torch imported first the calls of spams reach torch's: after
# `spams.lasso` or `spams.omp`, `torch.get_num_threads()` is the number that was given to spams, whatever
# `torch.set_num_threads` or OMP_NUM_THREADS had said, and sums are rounded in another order, so that a run repeated
# without spams ends in other digits. Imported the other way round, torch's number stays.
# Guess before: the number holds for the call; and the order of imports does not matter.
# Seen (spams-bin 2.6.14, torch 2.14.1, Python 3.11, Linux x86-64):
#   torch imported first, torch.set_num_threads(1): after lasso with numThreads=3 torch has 3, after omp 3
#   spams imported first, torch.set_num_threads(1): after lasso with numThreads=3 torch has 1, after omp 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 spams-bin==2.6.14
cat > "$folder/look.py" <<'PY'
import importlib
import sys

import numpy

for name in sys.argv[1:]:
    importlib.import_module(name)
import spams
import torch

rng = numpy.random.default_rng(0)
rows = numpy.asfortranarray(rng.standard_normal((9, 400)))
atoms = rng.standard_normal((9, 6))
atoms = numpy.asfortranarray(atoms / numpy.linalg.norm(atoms, axis=0))
calls = {
    "lasso": lambda: spams.lasso(rows, D=atoms, lambda1=0.1, mode=2, numThreads=3),
    "omp": lambda: spams.omp(rows, atoms, L=3, eps=0.0, numThreads=3),
}
left = {}
for name, call in calls.items():
    torch.set_num_threads(1)
    assert torch.get_num_threads() == 1
    call()
    left[name] = torch.get_num_threads()
first = sys.argv[1]
print(
    f"{first} imported first, torch.set_num_threads(1): after lasso with numThreads=3 torch has {left['lasso']}, "
    f"after omp {left['omp']}"
)
wanted = {"torch": 3, "spams": 1}[first]
assert set(left.values()) == {wanted}, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py" torch spams
"$folder/venv/bin/python" "$folder/look.py" spams torch
