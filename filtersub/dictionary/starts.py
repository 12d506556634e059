"""From starts to the best end: on growing parts of the rows, from every start, and the lowest objective kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from .alternate import Alternation, Coder, Stop, alternate
from .coding import Task
from .initial import drawn
from .ksvd import learn_ksvd

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
