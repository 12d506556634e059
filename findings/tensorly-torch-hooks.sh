#!/usr/bin/env bash
# tensorly-torch 0.5.0: tensor dropout scales kernels four times, the lasso of CP tensors does nothing, tensor trains start too small.
#
# Behaviour: `tensor_dropout` drops no component of modes of up to `min_dim` (3 by default), as documented, but scales for them all the same:
# with p = 0.5 a Tucker-factorised 3 x 3 convolution trains with kernels that are on average 4 times those of evaluation, a tensor train
# with 2 times. `tensor_lasso` gives CP tensors lasso weights that never multiply the tensor: the penalty shrinks only itself, and counts the
# factor `penalty` twice. Tucker tensors and tensor trains are multiplied. `normal_` and `tt_init`, "so the reconstruction has the
# specified standard deviation", divide by the product of the ranks where its root is due: tensor trains of rank 8 start with an
# eighth of what was asked, and so does each layer that starts from it. Nothing is said.
# Guess before: dropout keeps the mean, a lasso weight of 0 takes its component out, and draws have the standard deviation asked for.
# Seen (tensorly-torch 0.5.0, tensorly 0.10.0, torch 2.13.0, Python 3.11, Linux x86-64):
#   3 x 3 kernels, p = 0.5: mean of 1,000 draws over the kernels cp 1.00, tucker 3.98, tt 2.01
#   lasso weights 1, penalty 0.01: loss cp 0.0001, tucker 0.0100, tt 0.0100
#   lasso weights 0: norm of the tensor over the one before cp 1.00, tucker 0.00, tt 0.00
#   standard deviation asked 0.02, drawn cp 0.0198, tucker 0.0203, tt 0.0024
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 scipy==1.17.1 tensorly==0.10.0 tensorly-torch==0.5.0 packaging==25.0
cat > "$folder/look.py" <<'PY'
import torch
from tltorch import FactorizedTensor
from tltorch.tensor_hooks import tensor_dropout, tensor_lasso

torch.manual_seed(0)


def tensor(kind, shape, rank):
    return FactorizedTensor.new(shape, rank=rank, factorization=kind).normal_(0, 1.0)


gains = {}
for kind, rank in (("cp", 8), ("tucker", (8, 8, 3, 3)), ("tt", (1, 8, 8, 3, 1))):
    kernels = tensor(kind, (8, 8, 3, 3), rank)
    full, mean = kernels.to_tensor().detach(), 0
    tensor_dropout(kernels, p=0.5)
    with torch.no_grad():
        for _ in range(1000):
            mean = mean + kernels().to_tensor() / 1000
    gains[kind] = float((mean * full).sum() / full.square().sum())
words = ", ".join(f"{kind} {gain:.2f}" for kind, gain in gains.items())
print(f"3 x 3 kernels, p = 0.5: mean of 1,000 draws over the kernels {words}")
assert abs(gains["cp"] - 1) < 0.2 and abs(gains["tucker"] - 4) < 0.8, "the behaviour has changed"
assert abs(gains["tt"] - 2) < 0.4, "the behaviour has changed"

shares, losses = {}, {}
for kind, rank in (("cp", 4), ("tucker", (4, 4, 4)), ("tt", (1, 4, 4, 1))):
    weights = tensor(kind, (6, 6, 6), rank)
    lasso = tensor_lasso(kind, penalty=0.01)
    lasso.apply(weights)
    before = weights().to_tensor().detach()
    losses[kind] = float(lasso.loss)
    lasso.set_weights(weights, 0.0)
    shares[kind] = float(weights().to_tensor().detach().norm() / before.norm())
print(f"lasso weights 1, penalty 0.01: loss {', '.join(f'{k} {v:.4f}' for k, v in losses.items())}")
print(f"lasso weights 0: norm of the tensor over the one before {', '.join(f'{k} {v:.2f}' for k, v in shares.items())}")
assert shares["cp"] > 0.999 and max(shares["tucker"], shares["tt"]) < 1e-6, "the behaviour has changed"
assert losses["cp"] < 0.011 * losses["tucker"] < 0.00012, "the behaviour has changed"

spreads = {}
for kind, rank in (("cp", 8), ("tucker", (8, 8, 8)), ("tt", (1, 8, 8, 1))):
    drawn = [tensor(kind, (20, 20, 20), rank).normal_(0, 0.02).to_tensor() for _ in range(20)]
    spreads[kind] = float(torch.stack(drawn).detach().square().mean().sqrt())
print(f"standard deviation asked 0.02, drawn {', '.join(f'{k} {v:.4f}' for k, v in spreads.items())}")
assert abs(spreads["cp"] - 0.02) < 0.006 and spreads["tt"] < 0.004, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
