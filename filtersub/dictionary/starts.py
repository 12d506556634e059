"""Where learning begins, and which start it keeps.

A start is rows, principal directions, spread-out rows, a fixed basis, or atoms that are given. From every start atoms
are learned on growing parts of the rows; the lowest objective is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..errors import FiltersubError
from ..sparse_coding.linear import second_moment
from .alternate import Alternation, Coder, Stop, alternate
from .bases import cosine_atoms, fourier_bessel_atoms, square_side
from .coding import Task
from .ksvd import learn_ksvd
from .result import DictionaryResult

RANDOM_INITS = ("rows", "kmeans++")  # those that another draw changes altogether
_MOST_ROWS = 65536  # from which k-means++ draws: enough to see every direction that matters
_GROWTH = 8  # each part of the rows has so many times those of the part before
_FIRST_TOL = 1 / 3  # times tol, on the first part or a small matrix: there rounds cost little
_MOST_STARTS, _ROWS_OF_STARTS = 3, 32768  # where time is short anyway


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


def array_of(atoms: Tensor) -> np.ndarray:
    """Atoms as the updates want them: float64, on the CPU."""
    return atoms.detach().double().cpu().numpy()


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
