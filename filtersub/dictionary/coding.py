"""What is minimised, and coding by any solver of sparse_coding, in full, every round."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning
from ..sparse_coding import SOLVERS, CodingResult, encode, lasso_objective
from ..sparse_coding.linear import second_moment
from .alternate import Coder, Descent, Statistics

_FEW_ATOMS = 13  # up to which exact codes take little longer than the sweeps that come near them


@dataclass(frozen=True)
class Task:
    """What is minimised, as opposed to over which rows."""

    solver: str
    n_atoms: int
    l1_penalty: float
    n_nonzero: int | None
    nonnegative: bool

    @property
    def kind(self) -> str:
        return SOLVERS[self.solver]

    def encode(self, rows: Tensor, atoms: Tensor, codes: Tensor | None = None) -> CodingResult:
        """Codes of the rows; with codes that are there, no row of a greedy solver gets worse."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last coding's state is reported, once
            coding = encode(
                rows,
                atoms,
                self.solver,
                l1_penalty=self.l1_penalty,
                n_nonzero=self.n_nonzero,
                nonnegative=self.nonnegative,
                codes_init=codes,
            )
        if codes is None or self.kind != "support":
            return coding
        before, after = ((rows - c @ atoms).square().sum(1) for c in (codes, coding.codes))
        return replace(coding, codes=torch.where((before < after)[:, None], codes, coding.codes))

    def coder(self, rows: Tensor, effort: int = 0) -> Coder:
        """Descent for the exact LASSO, whose alternation needs no exact codes; else the solver itself."""
        if self.solver == "lasso" and self.l1_penalty > 0:
            encode_rows = partial(self.encode, rows) if self.n_atoms <= _FEW_ATOMS else None
            return Descent(rows, self.n_atoms, self.l1_penalty, self.nonnegative, encode_rows, effort)
        return Coding(rows, self)

    def objective(self, rows: Tensor, atoms: Tensor, codes: Tensor) -> float:
        """``1/2 ||rows - codes atoms||_F^2``, and the penalty where the solver has one; a sum over rows."""
        return lasso_objective(rows, atoms, codes, self.l1_penalty if self.kind == "penalty" else 0.0)


class Coding(Coder):
    """Every round codes the rows in full, on any device."""

    exact = True
    codes = None

    def __init__(self, rows: Tensor, task: Task) -> None:
        super().__init__(rows)
        self._task = task
        self._energy = 0.5 * sum(float(part.double().square().sum()) for part in rows.split(1 << 16))

    def round(self, atoms: np.ndarray, sweeps: int | None = None) -> Statistics:
        here = torch.from_numpy(atoms).to(self.rows)
        self.coding = self._task.encode(self.rows, here, self.codes)
        found = self.coding.codes
        gram, target = second_moment(found), second_moment(found, self.rows)
        value = self._task.objective(self.rows, here, found)
        return Statistics(gram.cpu().numpy(), target.cpu().numpy(), value, self._energy)

    def accept(self) -> None:
        self.codes = self.coding.codes
