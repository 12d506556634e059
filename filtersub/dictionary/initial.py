"""Where learning begins: rows, principal directions, spread-out rows, fixed bases, or atoms that are given."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from ..errors import FiltersubError
from ..sparse_coding.linear import second_moment
from .bases import cosine_atoms, fourier_bessel_atoms, square_side
from .result import DictionaryResult

INITS = ("rows", "pca", "kmeans++", "dct", "fourier-bessel")
RANDOM_INITS = ("rows", "kmeans++")  # those that another draw changes altogether
_MOST_ROWS = 65536  # from which k-means++ draws: enough to see every direction that matters


def initial_atoms(
    rows: Tensor, n_atoms: int, init: str, generator: np.random.Generator, patch_shape: tuple[int, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Unit-norm atoms (n_atoms, d), dtype and device of the rows, by a name in INITS; and what to note about them.

    A basis with fewer atoms than wanted (principal directions beyond d, Fourier-Bessel functions beyond what the grid
    tells apart) is completed by random rows, which the note tells.
    """
    if init == "rows":
        return random_rows(rows, n_atoms, generator), ()
    if init == "kmeans++":
        return _spread_rows(rows, n_atoms, generator), ()
    if init == "pca":
        moment = second_moment(rows)
        basis = torch.linalg.eigh(moment).eigenvectors.flip(1).T[:n_atoms]
    else:
        shape = _fitting(init, patch_shape, rows.shape[1])
        if init == "dct":
            basis = cosine_atoms(shape, n_atoms)
        else:
            basis = fourier_bessel_atoms(square_side(shape), n_atoms)
    basis = basis.to(rows)
    missing = n_atoms - len(basis)
    if missing == 0:
        return basis.contiguous(), ()
    note = f"init {init!r} has {len(basis)} atoms for patches of {rows.shape[1]}; the other {missing} are random rows"
    return torch.cat([basis, random_rows(rows, missing, generator)]), (note,)


def given_atoms(given: Tensor | DictionaryResult, n_atoms: int, rows: Tensor) -> Tensor:
    """The atoms given, brought to unit norm; raises FiltersubError where they do not fit."""
    atoms = given.atoms if isinstance(given, DictionaryResult) else given
    if not isinstance(atoms, Tensor) or atoms.shape != (n_atoms, rows.shape[1]):
        found = tuple(atoms.shape) if isinstance(atoms, Tensor) else type(atoms).__name__
        raise FiltersubError(f"atoms_init must be (n_atoms, d) = {(n_atoms, rows.shape[1])}, got {found}")
    if not bool(torch.isfinite(atoms).all()):
        raise FiltersubError("atoms_init holds NaN or infinity")
    norms = atoms.double().norm(dim=1)
    if bool((norms == 0).any()):
        raise FiltersubError(f"atom {int(norms.argmin())} of atoms_init is zero; atoms need a direction")
    return unit(atoms.to(rows.device, torch.float64)).to(rows)


def random_rows(rows: Tensor, n_atoms: int, generator: np.random.Generator) -> Tensor:
    """Unit-norm directions of randomly chosen rows; random directions where a chosen row is zero."""
    chosen = rows[drawn(rows.shape[0], n_atoms, generator).to(rows.device)]
    spare = random_directions(n_atoms, rows.shape[1], generator).to(chosen)
    return unit(torch.where(chosen.norm(dim=1, keepdim=True) > 0, chosen, spare))


def random_directions(n_atoms: int, d: int, generator: np.random.Generator) -> Tensor:
    """Unit-norm directions, float64, that no row has a part in."""
    return unit(torch.from_numpy(generator.standard_normal((n_atoms, d))))


def drawn(n_rows: int, count: int, generator: np.random.Generator) -> Tensor:
    """Indices of ``count`` different rows, in random order."""
    return torch.from_numpy(generator.choice(n_rows, count, replace=False))


def unit(atoms: Tensor) -> Tensor:
    return atoms / atoms.norm(dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)


def _spread_rows(rows: Tensor, n_atoms: int, generator: np.random.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007) on lines, since the sign of an atom is free.

    Each next row is drawn with a probability in proportion to its energy off the nearest line so far,
    ``||x||^2 - max <x, atom>^2``.
    """
    chosen = drawn(rows.shape[0], min(rows.shape[0], _MOST_ROWS), generator)
    part = rows[chosen.to(rows.device)].double()
    energy = part.square().sum(1)
    left = energy.clone()
    atoms = torch.zeros(n_atoms, rows.shape[1], dtype=torch.float64, device=rows.device)
    spare = random_directions(n_atoms, rows.shape[1], generator).to(rows.device)
    for j in range(n_atoms):
        draw = generator.random()
        reached = left.cumsum(0)
        if not float(reached[-1]) > 1e-12 * float(energy.sum()):
            atoms[j] = spare[j]  # the atoms before span every row
            continue
        place = int(torch.searchsorted(reached, draw * reached[-1], right=True).clamp_max(len(part) - 1))
        atoms[j] = part[place] / energy[place].sqrt()
        left = torch.minimum(left, (energy - (part @ atoms[j]).square()).clamp_min(0))
        left[place] = 0
    return atoms.to(rows)


def _fitting(init: str, patch_shape: tuple[int, ...] | None, d: int) -> tuple[int, ...]:
    if patch_shape is None:
        raise FiltersubError(
            f"init {init!r} needs the shape of a patch: pass patch_shape=(p, *kernel_size, q), of {d} numbers in all"
        )
    if prod(patch_shape) != d:
        raise FiltersubError(f"patch_shape {tuple(patch_shape)} has {prod(patch_shape)} numbers, but the rows have {d}")
    return tuple(patch_shape)
