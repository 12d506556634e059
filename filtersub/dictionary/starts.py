"""Where learning begins, and which start it keeps.

A start is rows, principal directions, spread-out rows, a fixed basis, or atoms that are given. From every start atoms
are learned on growing parts of the rows; the lowest objective is kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import reduce
from itertools import product
from math import ceil, cos, pi, prod

import numpy as np
import torch
from torch import Tensor

from ..errors import FiltersubError
from ..sparse_coding.linear import second_moment
from ..sparse_coding.result import check_finite
from .alternate import Alternation, Coder, Stop, Task, alternate, array_of
from .ksvd import learn_ksvd
from .result import DictionaryResult

RANDOM_INITS = ("rows", "kmeans++")  # those that another draw changes altogether
_MOST_ROWS = 65536  # from which k-means++ draws: enough to see every direction that matters
_GROWTH = 8  # each part of the rows has so many times those of the part before
_FIRST_TOL = 1 / 3  # times tol, on the first part or a small matrix: there rounds cost little
_MOST_STARTS, _ROWS_OF_STARTS = 3, 32768  # where time is short anyway
_MOST_ORDERS = 40  # of the Bessel functions; far beyond what kernels resolve
_SAME = 1 - 1e-6  # |inner product| from which two functions are the same on the grid


def usual_starts(task: Task, rows: Tensor, learner: str, max_rounds: int) -> int:
    """How many starts where the user does not say."""
    if task.solver != "lasso" or learner != "alternating" or max_rounds == 0:
        return 1
    return min(_MOST_STARTS, max(1, _ROWS_OF_STARTS // len(rows)))


def learn_from_starts(
    begins: list[Tensor],
    rows: Tensor,
    task: Task,
    learner: str,
    stop: Stop,
    sample_rows: int,
    generator: np.random.Generator,
    stop_if_costly: bool,
) -> tuple[Alternation, Coder]:
    """The lowest of what the starts, atoms (n_atoms, d) each, lead to, with its coder; rounds of all are counted.

    ``stop_if_costly`` ends with the first start whose rounds needed more than few sweeps, and take several times as
    long.
    """
    best, done = None, 0
    for begin in begins:
        parts = _parts(rows, sample_rows if stop.max_rounds else 0, generator)
        found, coder = _learn_on_parts(parts, rows, array_of(begin), task, learner, stop, done)
        done = found.rounds
        if best is None or found.history[-1] < best[0].history[-1]:
            best = found, coder
        if stop_if_costly and coder.effort > 0:
            break
    return replace(best[0], rounds=done), best[1]


def _parts(rows: Tensor, sample_rows: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """Random parts of the rows, each eight times as large as the one before it, then all rows."""
    while 0 < 2 * sample_rows <= rows.shape[0]:
        yield rows[drawn(rows.shape[0], sample_rows, generator).to(rows.device)]
        sample_rows *= _GROWTH
    yield rows


def _learn_on_parts(
    parts: Iterable[Tensor], rows: Tensor, atoms: np.ndarray, task: Task, learner: str, stop: Stop, done: int
) -> tuple[Alternation, Coder]:
    """Learn on each part from the atoms of the part before; the last part's outcome, rounds counted from ``done``."""
    effort = 0
    for number, part in enumerate(parts):
        coder = task.coder(part, effort)
        tol = stop.tol * (_FIRST_TOL if number == 0 else 1)
        here = replace(stop, tol=tol, on_round=_scaled(stop.on_round, done, len(rows) / len(part)))
        if learner == "alternating":
            found = alternate(coder, atoms, here, task.l1_penalty)
        else:
            found = learn_ksvd(coder, atoms, here, approximate=learner != "ksvd")
        atoms, done, effort = found.atoms, done + found.rounds, max(coder.effort - 1, 0)
    return replace(found, rounds=done), coder


def _scaled(
    on_round: Callable[[int, float], None] | None, done: int, factor: float
) -> Callable[[int, float], None] | None:
    return None if on_round is None else lambda number, objective: on_round(done + number, factor * objective)


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
    check_finite("atoms_init", atoms)
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
    atoms = [reduce(torch.kron, [axis[k] for axis, k in zip(axes, place, strict=True)]) for place in lowest[:n_atoms]]
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
    return unit(torch.tensor(rows, dtype=torch.float64))


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
