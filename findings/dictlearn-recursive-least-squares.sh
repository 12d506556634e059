#!/usr/bin/env bash
# dictlearn 1.0.0: online learning by recursive least squares forgets how atoms occur together, and learns few of the planted ones.
#
# Behaviour: `fit_algorithm="rlsdl"` keeps a triangular factor A of the codes' second moments, A'A = sum of x x', so that each row of
# data takes one update of rank one. The update takes an upper factor for a lower one: from the second row on half of what is off
# the diagonal is lost, and A'A is another matrix. The forgetting factor never reaches A either: 0.99 and 1 differ only by a factor of one
# step. Nothing is said. The same recursion with the inverse of the second moments, ten lines by the paper that the class names (Skretting
# and Engan, 2010), finds all planted atoms, and the class's "ocddl" nearly all.
# Guess before: A'A is the weighted sum of x x' after each row, and the atoms are those of the paper's recursion.
# Seen (dictlearn 1.0.0, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64):
#   forgetting 1.0: A'A off the second moments by 0.000 after 1 row, 0.063 after 2, 0.192 after 200
#   forgetting 0.99: A'A off the second moments by 0.009 after 1 row, 0.066 after 2, 1.417 after 200
#   1,500 rows of 3 of 30 atoms, 10 passes, forgetting 0.99; atoms found and root mean square error:
#   rlsdl: 5 of 30, 0.106
#   ocddl: 28 of 30, 0.043
#   the paper's recursion: 30 of 30, 0.011
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dictlearn==1.0.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from dictlearn import MiniBatchDictionaryLearning, sparse_encode

rng = np.random.default_rng(0)
planted = rng.normal(size=(30, 20))
planted /= np.linalg.norm(planted, axis=1, keepdims=True)
codes = np.zeros((1500, 30))
for row in codes:
    row[rng.choice(30, 3, replace=False)] = rng.normal(size=3)
rows = codes @ planted
start = rng.normal(size=(30, 20))
start /= np.linalg.norm(start, axis=1, keepdims=True)


def learner(algorithm, **settings):
    return MiniBatchDictionaryLearning(
        30, fit_algorithm=algorithm, n_nonzero_coefs=3, max_iter=10, dict_init=start, random_state=0, **settings
    )


for factor in (1.0, 0.99):
    model, atoms, moments, gaps = learner("rlsdl", forgetting_factor=factor), start, np.eye(30), {}
    for count, row in enumerate(rows[:200, None], 1):
        code = sparse_encode(row, atoms, n_nonzero_coefs=3)
        moments = factor * moments + code.T @ code
        model.partial_fit(row)
        atoms, factored = model.components_, model._engine_.A_
        gaps[count] = np.linalg.norm(factored.T @ factored - moments) / np.linalg.norm(moments)
    print(
        f"forgetting {factor}: A'A off the second moments by {gaps[1]:.3f} after 1 row, {gaps[2]:.3f} after 2, "
        f"{gaps[200]:.3f} after 200"
    )
    assert gaps[1] < 0.02 and min(gaps[2], gaps[200]) > 0.05, "the behaviour has changed"


def by_the_paper(factor=0.99):
    order, atoms, inverse = np.random.RandomState(0), start.T.copy(), np.eye(30)
    for _ in range(10):
        for row in rows[order.permutation(1500)]:
            code = sparse_encode(row[None], atoms.T, n_nonzero_coefs=3)[0]
            step = inverse @ code / factor
            share = 1 / (1 + code @ step)
            inverse = inverse / factor - share * np.outer(step, step)
            atoms = atoms + share * np.outer(row - atoms @ code, step)
            atoms /= np.linalg.norm(atoms, axis=0)
    return atoms.T


def told(title, atoms):
    found = int((abs(atoms @ planted.T).max(0) > 0.99).sum())
    error = np.linalg.norm(rows - sparse_encode(rows, atoms, n_nonzero_coefs=3) @ atoms) / rows.size**0.5
    print(f"{title}: {found} of 30, {error:.3f}")
    return found


seen = [told(name, learner(name).fit(rows).components_) for name in ("rlsdl", "ocddl")]
assert seen[0] < 10 and seen[1] > 25 and told("the paper's recursion", by_the_paper()) > 25, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/look.py"
