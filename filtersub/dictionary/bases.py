"""Fixed dictionaries for spatial kernels: cosines and Fourier-Bessel functions."""

from __future__ import annotations

from itertools import product
from math import ceil, cos, pi, prod

import numpy as np
import torch
from torch import Tensor

from ..errors import FiltersubError

_MOST_ORDERS = 40  # of the Bessel functions; far beyond what kernels resolve
_SAME = 1 - 1e-6  # |inner product| from which two functions are the same on the grid


def cosine_atoms(patch_shape: tuple[int, ...], n_atoms: int) -> Tensor:
    """Products of cosines along each axis of the patch, lowest frequencies first, (n_atoms, d) float64, unit norm.

    Up to d atoms: the orthonormal DCT-II, its ``n_atoms`` lowest frequencies. More: each axis that is longer than 1 has
    more frequencies than positions, in even steps (the overcomplete DCT of Aharon, Elad and Bruckstein, IEEE Trans.
    Signal Processing 54(11), 2006, but means are kept).
    """
    sizes = _checked(patch_shape)
    counts = _frequencies(sizes, n_atoms)
    axes = [_cosines(size, count) for size, count in zip(sizes, counts, strict=True)]
    places = product(*(range(count) for count in counts))
    lowest = sorted(places, key=lambda place: (sum((k / n) ** 2 for k, n in zip(place, counts, strict=True)), place))
    atoms = [_outer([axis[k] for axis, k in zip(axes, place, strict=True)]) for place in lowest[:n_atoms]]
    return torch.stack(atoms)


def _frequencies(sizes: tuple[int, ...], n_atoms: int) -> tuple[int, ...]:
    """How many frequencies each axis has: as many as positions, or, overcomplete, evenly more."""
    if n_atoms <= prod(sizes):
        return sizes
    long = [size for size in sizes if size > 1]
    if not long:
        return sizes
    factor = (n_atoms / prod(sizes)) ** (1 / len(long))
    return tuple(ceil(size * factor - 1e-9) if size > 1 else 1 for size in sizes)


def _cosines(size: int, count: int) -> Tensor:
    rows = [[cos(pi * k * (place + 0.5) / count) for place in range(size)] for k in range(count)]
    atoms = torch.tensor(rows, dtype=torch.float64)
    return atoms / atoms.norm(dim=1, keepdim=True)


def _outer(vectors: list[Tensor]) -> Tensor:
    atom = torch.ones(1, dtype=torch.float64)
    for vector in vectors:
        atom = (atom[:, None] * vector).reshape(-1)
    return atom


def fourier_bessel_atoms(size: int, n_atoms: int) -> Tensor:
    """Fourier-Bessel functions of a disk on a size x size grid, lowest frequencies first, (at most n_atoms, size^2).

    ``J_n(R r) cos(n t)`` and ``J_n(R r) sin(n t)``, R a zero of the Bessel function J_n, within radius 1, which reaches
    half a pixel past the outermost pixel centres of an axis: the basis of Qiu, Cheng, Calderbank and Sapiro, "DCFNet",
    ICML 2018, arXiv:1802.04145, with frequencies up to 1.5 (below 5 x 5: 2) times pi per pixel, as there. Unit norm,
    float64. The functions are orthogonal on the disk, on a grid only nearly so; those that repeat an earlier one on the
    grid, or vanish, are left out.
    """
    from scipy.special import jn_zeros, jv

    radius = size / 2
    places = (np.arange(size) - (size - 1) / 2) / radius
    x, y = np.meshgrid(places, places)
    r, angle = np.hypot(x, y).reshape(-1), np.arctan2(y, x).reshape(-1)
    inside = r < 1
    highest = pi * radius * (2 if size < 5 else 1.5)
    waves = sorted(
        (float(zero), order)
        for order in range(_MOST_ORDERS)
        for zero in jn_zeros(order, max(1, ceil(highest / pi)))
        if zero <= highest
    )
    atoms: list[np.ndarray] = []
    for zero, order in waves:
        if len(atoms) >= n_atoms:
            break
        radial = np.where(inside, jv(order, zero * r), 0.0)
        for turned in (np.cos, np.sin) if order else (np.cos,):
            atom = radial * turned(order * angle)
            norm = np.linalg.norm(atom)
            if norm > 1e-6 and all(abs(atom @ other) < _SAME * norm for other in atoms):
                atoms.append(atom / norm)
    return torch.from_numpy(np.stack(atoms[:n_atoms])) if atoms else torch.empty(0, size * size, dtype=torch.float64)


def square_side(patch_shape: tuple[int, ...]) -> int:
    """The side of a square spatial patch without channels, or a FiltersubError that says what the patch is."""
    sizes = _checked(patch_shape)
    spatial = [size for size in sizes if size > 1]
    if len(spatial) != 2 or spatial[0] != spatial[1]:
        raise FiltersubError(
            f"Fourier-Bessel atoms are for square spatial kernels without channel blocks, not for patches of shape "
            f"{tuple(patch_shape)}; use init 'dct', which takes any"
        )
    return spatial[0]


def _checked(patch_shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(patch_shape)
    if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise FiltersubError(f"patch_shape must be positive integers, (p, *kernel_size, q); got {patch_shape!r}")
    return sizes
