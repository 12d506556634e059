#!/usr/bin/env bash
# equinox 0.13.8: adaptive pooling takes windows that do not overlap, the larger ones first: it is not torch's, and not symmetric.
#
# Behaviour: `AdaptiveAvgPool2d` and the other adaptive pools split a side that the target does not divide into parts, the first ones
# larger by one. Of 8 pixels to 7 the first output averages two pixels and each other one copies a pixel; torch's seven windows of two
# overlap. A mirrored image gives other averages. A network from torch, such as a VGG with its pooling to 7 x 7 at another image size,
# computes other features. Average pooling with `use_ceil=True` divides by the whole kernel where it stands over the edge: ones
# average to 0.44 in a corner (its documentation says that it pads). Nothing is said. Sides that divide, and convolutions, are equal.
# Guess before: adaptive pools are torch's, whose names they bear, and the average of ones is 1 without padding.
# Seen (equinox 0.13.8, JAX 0.10.2, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   8 to 4: windows of [2, 2, 2, 2] pixels, torch's [2, 2, 2, 2]; averages apart by 0.00, of the mirrored image by 0.00
#   8 to 7: windows of [2, 1, 1, 1, 1, 1, 1] pixels, torch's [2, 2, 2, 2, 2, 2, 2]; averages apart by 3.07, of the mirrored image by 3.93
#   8 to 5: windows of [2, 2, 2, 1, 1] pixels, torch's [2, 3, 2, 3, 2]; averages apart by 3.26, of the mirrored image by 2.54
#   kernel 2, stride 2, rounded up: averages of ones from 1.00 to 1.00, torch's from 1.00
#   kernel 3, stride 3 and 2, rounded up: averages of ones from 0.44 to 1.00, torch's from 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    equinox==0.13.8 jax==0.10.2 jaxlib==0.10.2 torch==2.14.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import equinox
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

ones = np.ones((1, 8, 8), np.float32)
noise = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)


def both(ours, theirs, image):
    """Output of equinox and of torch."""
    return np.asarray(ours(jnp.asarray(image))), theirs(torch.from_numpy(image)[None])[0].numpy()


def windows(pool, size):
    """Pixels that each output of a one-dimensional adaptive average takes."""
    return [int(column.sum()) for column in np.array([np.ravel(pool(row)) for row in np.eye(size, dtype=np.float32)]).T > 0]


for size in (4, 7, 5):
    pool = equinox.nn.AdaptiveAvgPool2d(size)
    found, wanted = both(pool, nn.AdaptiveAvgPool2d(size), noise)
    gap = float(np.abs(found - wanted).max())
    mirrored = float(np.abs(np.asarray(pool(jnp.asarray(noise[..., ::-1])))[..., ::-1] - found).max())
    taken = windows(lambda row: equinox.nn.AdaptiveAvgPool1d(size)(jnp.asarray(row)[None]), 8)
    given = windows(lambda row: nn.AdaptiveAvgPool1d(size)(torch.from_numpy(row)[None]).numpy(), 8)
    print(
        f"8 to {size}: windows of {taken} pixels, torch's {given}; averages apart by {gap:.2f}, "
        f"of the mirrored image by {mirrored:.2f}"
    )
    assert (gap < 1e-5) == (mirrored < 1e-5) == (8 % size == 0), "the behaviour has changed"
    assert taken[0] >= taken[-1] and sum(taken) == 8, "the behaviour has changed"

for kernel, stride in ((2, 2), (3, 3), (3, 2)):
    settings = equinox.nn.AvgPool2d(kernel, stride, use_ceil=True), nn.AvgPool2d(kernel, stride, ceil_mode=True)
    found, wanted = both(*settings, ones)
    print(
        f"kernel {kernel}, stride {stride}, rounded up: averages of ones from {found.min():.2f} to {found.max():.2f}, "
        f"torch's from {wanted.min():.2f}"
    )
    assert wanted.min() == 1 and (found.min() == 1) == (kernel == 2), "the behaviour has changed"
PY
JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
