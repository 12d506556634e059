#!/usr/bin/env bash
# deepinv 0.5.0: the Poisson likelihood's proximal operator returns negative images, its gradient is off by the square of the gain.
#
# Behaviour: `PoissonLikelihood` is the sum of x - y log(x), with a gain and a background. Its `prox` is (x - 1/gamma * root) / 2,
# where the minimiser is (x - gamma + root) / 2: a product for a sum, and 1/gamma for gamma. Entries of images in [0.5, 1.5] come
# out negative, where the likelihood is NaN. `grad` multiplies by the gain where the chain rule divides, so that it is
# gain^2 times the derivative of the value: only a gain of 1, the default, is right. The value of an image holds the
# logarithms of all images of its batch. `L1` and `L2` are right in all three.
# Guess before: prox minimises 1/2 |u - x|^2 + gamma d(u, y), grad is the derivative, and images of a batch are independent.
# Seen (deepinv 0.5.0, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   L2, prox: up to 0.000 from the minimiser, 0% of the entries negative
#   L1, prox: up to 0.000 from the minimiser, 0% of the entries negative
#   Poisson, prox: up to 2.507 from the minimiser, 100% of the entries negative
#   Poisson, gain 1.0: grad / derivative of the value 1.0000 to 1.0000
#   Poisson, gain 0.5: grad / derivative of the value 0.2500 to 0.2500
#   Poisson, gain 0.1: grad / derivative of the value 0.0100 to 0.0100
#   L2, values: 30.37 in the batch and 30.37 alone, 34.73 in the batch and 34.73 alone
#   L1, values: 102.33 in the batch and 102.33 alone, 109.79 in the batch and 109.79 alone
#   Poisson, values: 88.80 in the batch and 82.09 alone, 94.41 in the batch and 85.88 alone
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 h5py deepinv==0.5.0
cat > "$folder/look.py" <<'PY'
import torch
from deepinv.optim.data_fidelity import L1, L2, PoissonLikelihood

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
GAMMA = 0.7
start, data = torch.rand(2, 1, 16, 16) + 0.5, torch.rand(2, 1, 16, 16) + 0.2


def by_scalar(distance):
    """The minimiser of 1/2 (u - x)^2 + gamma d(u, y), found entry by entry on a fine grid."""
    grid = torch.linspace(0.001, 3, 6000)
    best = torch.empty(start.numel())
    for i, (x, y) in enumerate(zip(start.flatten().tolist(), data.flatten().tolist(), strict=True)):
        value = distance(grid, torch.tensor(y))
        best[i] = grid[(0.5 * (grid - x) ** 2 + GAMMA * value).argmin()]
    return best.reshape(start.shape)


DISTANCES = {
    "L2": (L2(), lambda u, y: 0.5 * (u - y) ** 2),
    "L1": (L1(), lambda u, y: (u - y).abs()),
    "Poisson": (PoissonLikelihood(gain=1.0), lambda u, y: u - y * u.log()),
}
for name, (fidelity, distance) in DISTANCES.items():
    found = fidelity.d.prox(start, data, gamma=GAMMA)
    away = float((found - by_scalar(distance)).abs().max())
    negative = float((found < 0).double().mean())
    print(f"{name}, prox: up to {away:.3f} from the minimiser, {negative:.0%} of the entries negative")
    assert (away > 0.5 and negative > 0.1) if name == "Poisson" else (away < 0.01 and negative == 0), "the behaviour has changed"

for gain in (1.0, 0.5, 0.1):
    fidelity = PoissonLikelihood(gain=gain, bkg=0.1)
    image, seen = start[:1].clone().requires_grad_(), data[:1]
    (derivative,) = torch.autograd.grad(fidelity.d.fn(image, seen).sum(), image)
    ratio = fidelity.d.grad(start[:1], seen) / derivative
    print(f"Poisson, gain {gain}: grad / derivative of the value {float(ratio.min()):.4f} to {float(ratio.max()):.4f}")
    assert torch.allclose(ratio, torch.full_like(ratio, gain**2)), "the behaviour has changed"

for name, (fidelity, _) in DISTANCES.items():
    together = fidelity.d.fn(start, data)
    alone = torch.cat([fidelity.d.fn(start[i : i + 1], data[i : i + 1]) for i in range(2)])
    told = ", ".join(f"{float(both):.2f} in the batch and {float(one):.2f} alone" for both, one in zip(together, alone, strict=True))
    print(f"{name}, values: {told}")
    assert torch.allclose(together, alone) == (name != "Poisson"), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
