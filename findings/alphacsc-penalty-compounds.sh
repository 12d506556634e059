#!/usr/bin/env bash
# alphacsc 0.4.1: a penalty that is to stay a share of its largest value is multiplied by that value again in each iteration.
#
# Behaviour: `lmbd_max="shared"` and "per_atom" set the penalty at each iteration to reg x lambda_max of the current atoms, as the
# documentation has it. The code multiplies the penalty of the iteration before by lambda_max. A reg of 0.05 is 0.05 of lambda_max in the
# first iteration, 0.15 in the second, half in the third; then all activations are zero, learning ends, and a warning says that `reg`
# is too large. "scaled", which multiplies once, learns.
# Guess before: the penalty over lambda_max of the current atoms is reg in each iteration.
# Seen (alphacsc 0.4.1, NumPy 2.4.6, numba 0.68.1, Python 3.11, Linux x86-64), reg=0.05:
#   scaled: 15 iterations of 15, share of the largest penalty 0.050 0.043 0.037 0.033 0.030; 785 activations at the end
#   shared: 3 iterations of 15, share of the largest penalty 0.050 0.153 0.548; 0 activations at the end
#   per_atom: 5 iterations of 15, share of the largest penalty 0.050 0.077 0.232 1.156 16.676; 0 activations at the end
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check alphacsc==0.4.1 numpy==2.4.6 scipy==1.17.1 numba==0.68.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from alphacsc import learn_d_z_multi

rng = np.random.default_rng(0)
ATOMS, CHANNELS, WIDTH, TIMES = 3, 2, 16, 400
planted = np.hanning(WIDTH) * np.cumsum(rng.normal(size=(ATOMS, CHANNELS, WIDTH)), -1)
planted /= np.linalg.norm(planted, axis=(1, 2), keepdims=True)
signals = 0.02 * rng.normal(size=(4, CHANNELS, TIMES))
for signal in signals:
    for atom in planted:
        for place in rng.choice(TIMES - WIDTH, 6, replace=False):
            signal[:, place : place + WIDTH] += rng.uniform(1, 3) * atom


def largest(data, atom):
    """The smallest penalty at which an atom's activations are all zero: its largest inner product with the data."""
    windows = np.lib.stride_tricks.sliding_window_view(data, WIDTH, axis=-1)
    return float(np.einsum("ncta,ca->nt", windows, atom).max())


def learned(kind, reg):
    seen = []

    def note(encoder, objective):
        seen.append((np.ravel(encoder.reg) * np.ones(ATOMS), encoder.D_hat.copy()))

    settings = {"rank1": False, "D_init": "chunk", "n_iter": 15, "callback": note, "random_state": 0, "verbose": 0}
    activations = learn_d_z_multi(signals, ATOMS, WIDTH, reg=reg, lmbd_max=kind, eps=-np.inf, **settings)[3]
    return seen, activations


for kind in ("scaled", "shared", "per_atom"):
    seen, activations = learned(kind, 0.05)
    shares = []
    for (_, atoms), (used, _) in zip(seen[:-1], seen[1:]):
        tops = np.array([largest(signals / signals.std(), atom) for atom in atoms])
        shares.append(float(np.mean(used / (tops if kind == "per_atom" else tops.max()))))
    count = int((activations > 0).sum())
    words = " ".join(f"{share:.3f}" for share in shares[:5])
    print(f"{kind}: {len(shares)} iterations of 15, share of the largest penalty {words}; {count} activations at the end")
    assert abs(shares[0] - 0.05) < 1e-6, "the behaviour has changed"
    if kind == "scaled":
        assert len(shares) == 15 and count > 100 and max(shares) <= 0.05 + 1e-6, "the behaviour has changed"
    else:
        assert max(shares[1:3]) > 0.2 and len(shares) < 15 and count == 0, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
