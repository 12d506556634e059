"""Codes by coordinate descent, improved a few sweeps a round: what the alternation of the LASSO runs on.

Between two atom updates the codes need not be exact: any sweep lowers the objective, and the codes of the last round
are near. How near is looked at now and then; where the penalty is small and atoms are alike, sweeps creep, and rounds
take more of them or code exactly. float32 rows are swept in float32, float64 rows in float64; sums over rows are in
float64 and over fixed chunks, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import chunks, for_each
from ..sparse_coding import CodingResult
from .statistics import Statistics

_EFFORTS = (4, 16, 64)  # sweeps of a round: few, as long as that keeps the codes near; beyond, codes are exact
_COLD_SWEEPS = 30  # the first round from zero, where exact codes are dear


class Descent:
    """Rows (n_rows, d) on the CPU with their codes (n_rows, n_atoms), which every round improves in place.

    ``exactly(atoms, codes)`` codes the rows in full; where that is cheap, the first round does, and refine. ``effort``
    counts how often it proved that a round's sweeps leave the codes behind.
    """

    def __init__(
        self,
        rows: Tensor,
        n_atoms: int,
        l1_penalty: float,
        nonnegative: bool,
        exactly: Callable[[Tensor, Tensor | None], CodingResult] | None = None,
        effort: int = 0,
    ) -> None:
        self.rows = rows
        self.codes = torch.from_numpy(np.zeros((rows.shape[0], n_atoms), rows.numpy().dtype))
        self.coding: CodingResult | None = None
        self.effort = effort
        self.rounding = float(torch.finfo(rows.dtype).eps)
        self._l1, self._down = l1_penalty, np.inf if nonnegative else l1_penalty
        self._exactly = exactly
        self._begun = False

    @property
    def exact(self) -> bool:
        """Whether rounds end with exact codes, so that there is nothing to refine."""
        return self._exactly is not None and self.effort >= len(_EFFORTS)

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics:
        """Improve the codes over these unit-norm atoms (n_atoms, d), float64."""
        if sweeps is None and self._exactly is not None and (self.exact or not self._begun):
            return self.refine(atoms)
        if sweeps is None:
            sweeps = _EFFORTS[min(self.effort, len(_EFFORTS) - 1)] if self._begun else _COLD_SWEEPS
        self._begun, self.coding = True, None
        return self._swept(atoms, sweeps)

    def refine(self, atoms: np.ndarray) -> Statistics:
        """Exact codes, or, where they are dear, those of many sweeps."""
        if self._exactly is None:
            return self.round(atoms, _EFFORTS[-1])
        self.coding = self._exactly(torch.from_numpy(atoms).to(self.rows), self.codes if self._begun else None)
        self.codes, self._begun = self.coding.codes, True
        return self._swept(atoms, 0)

    def accept(self) -> None:
        """Codes change in place: there is nothing to take over."""

    def increase_effort(self, steps: int) -> None:
        """Spend more on each round from now on."""
        self.effort += steps

    def _swept(self, atoms: np.ndarray, sweeps: int) -> Statistics:
        n_atoms, d = atoms.shape
        totals = self._sweep(atoms, sweeps)
        products = totals[:-2].reshape(n_atoms, n_atoms + d)
        lower = np.tril(products[:, :n_atoms])
        gram, target = lower + np.tril(lower, -1).T, np.ascontiguousarray(products[:, n_atoms:])
        fit = 0.5 * np.vdot(gram, atoms @ atoms.T) - np.vdot(target, atoms)
        size, energy = totals[-2], 0.5 * totals[-1]
        return Statistics(gram, target, float(energy + fit + self._l1 * size), float(energy))

    def _sweep(self, atoms: np.ndarray, sweeps: int) -> np.ndarray:
        from ..engine.dictionary import sweep_rows

        rows, codes = self.rows.numpy(), self.codes.numpy()
        dtype = rows.dtype
        gram = atoms @ atoms.T
        squares = np.diagonal(gram).copy()
        np.fill_diagonal(gram, 0.0)
        inverse = np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0)
        problem = (
            atoms.astype(dtype).reshape(-1),
            gram.astype(dtype).reshape(-1),
            inverse.astype(dtype),
            dtype.type(self._l1),
            dtype.type(self._down),
            sweeps,
        )
        parts = chunks(len(rows))
        totals = np.zeros((len(parts), atoms.shape[0] * (atoms.shape[0] + atoms.shape[1]) + 2))
        for_each(lambda begin, end, k: sweep_rows(rows, codes, begin, end, *problem, totals[k]), parts)
        return totals.sum(0)


def half_energy(rows: Tensor) -> float:
    """``1/2 ||rows||_F^2`` in float64, without a second copy of the rows."""
    return 0.5 * sum(float(part.double().square().sum()) for part in rows.split(1 << 16))
