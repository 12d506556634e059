#!/usr/bin/env bash
# deepinv 0.5.0: the proximal operator of `Decolorize` returns grey images; the spectral camera is shifted where sides are even.
#
# Behaviour: `DecomposablePhysics.prox_l2` computes in the basis V and takes V to be square. That of `Decolorize` is one channel
# wide: whatever of an image is not a multiple of the response is lost, so that the result has no more colours than the
# measurement and is further from optimal than the image it started at. Methods that alternate it with a denoiser (half quadratic
# splitting, ADMM) forget the denoiser's colours in each step. The same A and A^T as `LinearPhysics` are solved right.
# `CompressiveSpectralImaging` shears by a convolution with a kernel as large as the image. Where a side is even, as in its
# documented example, that has no middle pixel: each shear, and its inverse too, moves the image by a pixel. `A_adjoint` is not
# the adjoint, and conjugate gradients (`A_dagger`) grow without end. With odd sides both are right.
# Guess before: the proximal operator has gradient 0, and <A x, y> = <x, A^T y> for each operator.
# Seen (deepinv 0.5.0, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   where it starts: objective 1.825, not of the response 0.599
#   prox_l2 of Decolorize: objective 12.428, not of the response 0.000
#   prox_l2 of LinearPhysics: objective 1.390, not of the response 0.606
#   (7, 32, 32), ss: <A x, y> - <x, A^T y> up to 5e-02; the first band's pixel (10, 12) goes to (9, 11); A_dagger leaves 6.3e+17 of the data
#   (7, 32, 32), sd: <A x, y> - <x, A^T y> up to 2e-02; the first band's pixel (10, 12) goes to (9, 11); A_dagger leaves 4.1e+10 of the data
#   (7, 31, 31), ss: <A x, y> - <x, A^T y> up to 1e-17; the first band's pixel (10, 12) goes to (10, 12); A_dagger leaves 1.1e-05 of the data
#   (7, 31, 31), sd: <A x, y> - <x, A^T y> up to 2e-17; the first band's pixel (10, 12) goes to (10, 12); A_dagger leaves 8.6e-06 of the data
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 h5py deepinv==0.5.0
cat > "$folder/look.py" <<'PY'
import torch
from deepinv.physics import CompressiveSpectralImaging, Decolorize, LinearPhysics

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
grey = Decolorize()
grey.to(torch.float64)
start, data = torch.rand(1, 3, 8, 8), grey.A(torch.rand(1, 3, 8, 8))
plain = LinearPhysics(A=grey.A, A_adjoint=grey.A_adjoint, max_iter=100, tol=1e-12)
GAMMA = 0.7


def objective(image):
    return float(0.5 * (image - start).square().sum() + GAMMA / 2 * (grey.A(image) - data).square().sum())


def colour(image):
    """The share of the image that is not a multiple of the response."""
    within = grey.A_adjoint(grey.A(image)) / grey.srf.square().sum()
    return float((image - within).norm() / image.norm())


print(f"where it starts: objective {objective(start):.3f}, not of the response {colour(start):.3f}")
values = {}
for name, physics in (("Decolorize", grey), ("LinearPhysics", plain)):
    found = physics.prox_l2(start, data, GAMMA)
    values[name] = objective(found), colour(found)
    print(f"prox_l2 of {name}: objective {values[name][0]:.3f}, not of the response {values[name][1]:.3f}")
assert values["Decolorize"][0] > 1.5 * objective(start) > 1.5 * values["LinearPhysics"][0], "the behaviour has changed"
assert values["Decolorize"][1] < 1e-6 and values["LinearPhysics"][1] > 0.2, "the behaviour has changed"

for size in ((7, 32, 32), (7, 31, 31)):
    for mode in ("ss", "sd"):
        torch.manual_seed(0)
        camera = CompressiveSpectralImaging(size, mode=mode)
        camera.to(torch.float64)
        errors = []
        for _ in range(10):
            image = torch.rand(1, *size)
            seen = camera.A(image)
            other = torch.randn_like(seen)
            apart = (seen * other).sum() - (image * camera.A_adjoint(other)).sum()
            errors.append(float(apart.abs() / (seen.norm() * other.norm())))
        dot = torch.zeros(1, *size)
        dot[0, 0, 10, 12] = 1
        place = camera.shear(camera.pad(dot))[0, 0].nonzero()[0].tolist()
        seen = camera.A(torch.rand(1, *size))
        left = float((camera.A(camera.A_dagger(seen)) - seen).norm() / seen.norm())
        print(
            f"{size}, {mode}: <A x, y> - <x, A^T y> up to {max(errors):.0e}; the first band's pixel (10, 12) goes to {tuple(place)}; "
            f"A_dagger leaves {left:.2g} of the data"
        )
        even = size[1] == 32
        assert (max(errors) > 1e-3) == even and (place != [10, 12]) == even, "the behaviour has changed"
        assert left > 10 if even else left < 0.01, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
