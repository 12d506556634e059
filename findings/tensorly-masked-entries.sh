#!/usr/bin/env bash
# tensorly 0.10.0: numbers that stand where the mask of `parafac` or `tucker` says "missing" change the decomposition, and hide in its error.
#
# Behaviour: the first factors are fitted to the tensor as it stands, missing entries included, and each pass fills them with what the last
# factors say. Nothing else forgets what stood there, and it fades slowly or not at all: of an exact tensor of rank 2, 30 % of it missing,
# `parafac` fits the given entries to 0.0002 after 3,000 passes where zeros stand for the missing ones, and to 0.8 where they are
# 100. The error that it returns says 0.02 there, for it counts the filled entries. NaN, the usual mark of a missing number, gives NaN with
# random factors, without a word. `non_negative_parafac` does not look at what is missing: it gives the same whatever stands there
# (issue 578 of tensorly/tensorly is about the error; of the values in the missing places the documentation does not speak).
# Guess before: entries that the mask leaves out do not influence the result.
# Seen (tensorly 0.10.0, NumPy 2.4.6, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   parafac, 3,000 passes  missing entries   0.0: given entries wrong by 0.0002, error told 0.0002
#   parafac, 3,000 passes  missing entries   1.0: given entries wrong by 0.0002, error told 0.0002
#   parafac, 3,000 passes  missing entries 100.0: given entries wrong by 0.8065, error told 0.0214
#   parafac, 3,000 passes  missing entries   nan: given entries wrong by nan, error told nan
#   parafac, 100 passes    missing entries   0.0: given entries wrong by 0.0109, error told 0.0099
#   parafac, 100 passes    missing entries   1.0: given entries wrong by 0.0519, error told 0.0466
#   tucker, 100 passes     missing entries   0.0: given entries wrong by 0.0511, error told 0.6172
#   tucker, 100 passes     missing entries 100.0: given entries wrong by 0.0805, error told 0.9999
#   non_negative_parafac   missing entries   0.0: given entries wrong by 0.0358, error told 0.0326
#   non_negative_parafac   missing entries 100.0: given entries wrong by 0.0358, error told 0.0326
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorly==0.10.0 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import warnings

import numpy
import tensorly
from tensorly.decomposition import non_negative_parafac, parafac, tucker

warnings.simplefilter("error")
rng = numpy.random.default_rng(0)
sides = [rng.uniform(0.2, 1, (n, 2)) for n in (6, 5, 4)]
exact = numpy.einsum("ir,jr,kr->ijk", *sides)
given = rng.uniform(size=exact.shape) > 0.3


def fitted(name, method, missing, **options):
    """Relative error of the given entries, and the one that the function returns."""
    tensor = numpy.where(given, exact, missing)
    found, errors = method(tensor, mask=given, random_state=0, init="random", return_errors=True, **options)
    whole = tensorly.tucker_to_tensor(found) if method is tucker else tensorly.cp_to_tensor(found)
    far = float(numpy.linalg.norm((whole - exact)[given]) / numpy.linalg.norm(exact[given]))
    print(f"{name:22} missing entries {missing:5}: given entries wrong by {far:.4f}, error told {float(errors[-1]):.4f}")
    return far, float(errors[-1])


for missing in (0.0, 1.0, 100.0, numpy.nan):
    far, told = fitted("parafac, 3,000 passes", parafac, missing, rank=2, n_iter_max=3000)
    if numpy.isnan(missing):
        assert numpy.isnan(far), "the behaviour has changed"
    elif missing == 100:
        assert far > 0.5 and told < 0.1, "the behaviour has changed"
    else:
        assert far < 0.01, "the behaviour has changed"
results = [fitted("parafac, 100 passes", parafac, missing, rank=2, n_iter_max=100)[0] for missing in (0.0, 1.0)]
assert max(results) > 2 * min(results), "the behaviour has changed"
results = [fitted("tucker, 100 passes", tucker, missing, rank=[2, 2, 2], n_iter_max=100)[0] for missing in (0.0, 100.0)]
assert abs(results[1] - results[0]) > 0.005, "the behaviour has changed"
results = [fitted("non_negative_parafac", non_negative_parafac, missing, rank=2, n_iter_max=100)[0] for missing in (0.0, 100.0)]
assert results[0] == results[1], "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
