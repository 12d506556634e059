"""Online dictionary learning: the atoms move after every mini-batch, by statistics that fade.

Mairal, Bach, Ponce and Sapiro, "Online Learning for Matrix Factorization and Sparse Coding", JMLR 11, 2010.
For matrices so tall that even one pass over all rows is long: a dictionary of this size needs few of them.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .alternate import Alternation, Coder, Statistics, Stop, moved_atoms, worst_reconstructed
from .starts import drawn

_SWEEPS = 30  # of a Descent that meets its rows once


class FadingStatistics:
    """Sums of C^T C and C^T rows over mini-batches, the older ones weighing less.

    Before the t-th batch enters, the sums are multiplied by ``(1 - 1/t)^forgetting``: 0 keeps all, and of a larger
    number, about the last ``1 / forgetting`` part of all batches counts. The first batch leaves no trace of the empty
    sums before it, so that one batch of all rows gives their statistics.
    """

    def __init__(self, forgetting: float) -> None:
        self.forgetting = forgetting
        self.batches = 0
        self.total: Statistics | None = None

    def add(self, found: Statistics) -> Statistics:
        """The sums with one more batch."""
        self.batches += 1
        if self.total is None:
            self.total = found
            return found
        kept = (1 - 1 / self.batches) ** self.forgetting
        gram, target = kept * self.total.gram + found.gram, kept * self.total.target + found.target
        self.total = Statistics(gram, target, found.objective, found.energy)
        return self.total


def learn_online(
    rows: Tensor,
    atoms: np.ndarray,
    coder_of: Callable[[Tensor], Coder],
    stop: Stop,
    batch_rows: int,
    forgetting: float,
    generator: np.random.Generator,
) -> Alternation:
    """Passes over the rows (n_rows, d), in random order, from ``atoms`` (n_atoms, d), float64, unit norm.

    The history has the sum of the batches' objectives of each pass, every batch judged with the atoms as they were
    before it moved them. Stops when a pass lowers that by less than tol of itself; it may rise, then it stops too.
    """
    atoms = np.array(atoms)
    sums, history = FadingStatistics(forgetting), []
    for number in range(1, stop.max_rounds + 1):
        order = drawn(rows.shape[0], rows.shape[0], generator).to(rows.device)
        cost = 0.0
        for chosen in order.split(batch_rows):
            coder = coder_of(rows[chosen])
            found = coder.round(atoms, _SWEEPS)
            coder.accept()
            cost += found.objective
            total = sums.add(found)
            dead = np.flatnonzero(np.diagonal(total.gram) <= 0)
            if dead.size:
                here = torch.from_numpy(atoms).to(rows)
                worst, _ = worst_reconstructed(coder.rows, here, coder.codes, dead.size)
                atoms[dead[: len(worst)]] = worst
            atoms = moved_atoms(total, atoms)
        history.append(cost)
        stop.tell(number, cost)
        if len(history) > 1 and history[-2] - cost <= stop.tol * history[-2]:
            reason = f"a pass lowered the objective by less than {stop.tol:g} of itself"
            return Alternation(atoms, history, reason, True, number)
    return Alternation(atoms, history, f"{stop.max_rounds} passes over the rows spent", False, len(history))
