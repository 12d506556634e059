#!/usr/bin/env bash
# mvlearn 0.5.0: GCCA embeds a single new sample as zero, and a batch by its own mean.
#
# Behaviour: `GCCA.transform` subtracts from each view the mean of the samples it is given, not that of the samples it was fitted to, though
# its documentation offers it for samples that were not fitted. So the embedding of a sample depends on the others of its batch: one sample
# alone is at the origin, and two groups that are transformed one after the other come to lie on each other. `MCCA`, `KMCCA` and `GroupPCA` of
# the same package keep the mean of `fit`. Nothing is said.
# Guess before: a fitted sample has the same embedding alone and in its batch, for each method.
# Seen (mvlearn 0.5.0, NumPy 2.4.6, SciPy 1.17.1, scikit-learn 1.7.2, Python 3.11, Linux x86-64), distances by the spread of all embeddings:
#   GCCA: a sample alone lies 0.878 from where it lies among all, groups 0.835 apart, in two batches 0.000
#   MCCA: a sample alone lies 0.000 from where it lies among all, groups 1.067 apart, in two batches 1.067
#   KMCCA: a sample alone lies 0.000 from where it lies among all, groups 1.087 apart, in two batches 1.087
#   GroupPCA: a sample alone lies 0.000 from where it lies among all, groups 1.592 apart, in two batches 1.592
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# The package asks for matplotlib 3.3 at most, which has no wheel for this Python; only its plots use it.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-learn==1.7.2 matplotlib seaborn
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps mvlearn==0.5.0
cat > "$folder/look.py" <<'PY'
import numpy as np
from mvlearn.decomposition import GroupPCA
from mvlearn.embed import GCCA, KMCCA, MCCA

# Three views of the same three hidden numbers; the second half of the samples is another group.
rng = np.random.default_rng(0)
hidden = rng.normal(size=(200, 3))
hidden[100:, 0] += 5
views = [hidden @ rng.normal(size=(3, columns)) + 0.5 * rng.normal(size=(200, columns)) for columns in (8, 9, 10)]
METHODS = {"GCCA": GCCA(n_components=3), "MCCA": MCCA(n_components=3, regs=0.1), "KMCCA": KMCCA(n_components=3, regs=0.1, kernel="rbf")}
METHODS["GroupPCA"] = GroupPCA(n_components=3)


def embedded(method, rows):
    return np.asarray(method.transform([view[rows].copy() for view in views]))[0]


for name, method in METHODS.items():
    method.fit([view.copy() for view in views])
    together = embedded(method, slice(None))
    spread = np.linalg.norm(together.std(0))
    alone = np.vstack([embedded(method, slice(row, row + 1)) for row in range(200)])
    moved = float(np.linalg.norm(alone - together, axis=1).mean() / spread)
    means = [float(np.linalg.norm(one.mean(0) - other.mean(0)) / spread) for one, other in (
        (together[:100], together[100:]), (embedded(method, slice(100)), embedded(method, slice(100, None))))]
    print(f"{name}: a sample alone lies {moved:.3f} from where it lies among all, groups {means[0]:.3f} apart, in two batches {means[1]:.3f}")
    if name == "GCCA":
        assert not abs(alone).max() and moved > 0.5 and means[0] > 0.7 and means[1] < 1e-9, "the behaviour has changed"
    else:
        assert moved < 1e-6 and abs(means[0] - means[1]) < 1e-6, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
