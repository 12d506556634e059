"""Orthogonal pursuit in torch, for devices that the compiled kernel does not know: the same rules, in batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ELEMENTS = 1 << 24  # of the largest temporary
_NEGLIGIBLE = 1e-24  # squared cosine between residual and atom: rounding
_DEPENDENT = 1e-12  # squared sine of the angle between an atom and the span of the chosen ones
_REACHED = 1e-11  # of the row's norm: what rounding may leave above the bound


def pursue(
    rows: Tensor, atoms: Tensor, bounds: Tensor | None, limit: int, by_error: bool, nonnegative: bool
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Codes; of each row the squared residual, largest gradient and whether it misses its bound; gain of each step."""
    n_rows, n_atoms = rows.shape[0], atoms.shape[0]
    codes = rows.new_zeros(n_rows, n_atoms)
    outcomes = rows.new_zeros(n_rows, 3, dtype=torch.float64)
    gains = np.zeros(4 * n_atoms)
    share = max(1, _ELEMENTS // (limit * max(limit, n_atoms)))
    for begin in range(0, n_rows, share):
        part = slice(begin, begin + share)
        work = _Pursuit(rows[part].double(), atoms.to(rows.device, torch.float64), limit, by_error, nonnegative)
        work.run(None if bounds is None else bounds[part], gains)
        codes[part], outcomes[part] = work.codes.to(rows.dtype), work.outcomes(None if bounds is None else bounds[part])
    return codes, outcomes, gains


class _Pursuit:
    """Rows in float64 with their codes so far; ``chosen`` marks the support, ``free`` the atoms that may join."""

    def __init__(self, rows: Tensor, atoms: Tensor, limit: int, by_error: bool, nonnegative: bool) -> None:
        self.rows, self.atoms, self.limit = rows, atoms, limit
        self.by_error, self.nonnegative = by_error, nonnegative
        self.gram, self.correlations = atoms @ atoms.T, rows @ atoms.T
        self.square, self.energy = self.gram.diagonal(), rows.square().sum(1)
        self.codes = torch.zeros_like(self.correlations)
        self.chosen = torch.zeros_like(self.codes, dtype=torch.bool)
        self.free = (self.square > 0).expand_as(self.chosen).clone()
        self.left = self.energy.clone()

    def run(self, bounds: Tensor | None, gains: np.ndarray) -> None:
        for step in range(len(gains)):
            open_rows = self.chosen.sum(1) < self.limit
            if bounds is not None:
                open_rows &= self.left > bounds.square()
            best = self._best(open_rows)
            while best is not None and not self._join(*best):
                best = self._best(open_rows)  # all candidates depended on their supports; the next ones, then
            if best is None:
                return
            left = (self.rows - self.codes @ self.atoms).square().sum(1)
            gains[step] += float((self.left - left).sum())
            stalled = best[0][(self.left - left)[best[0]] <= _NEGLIGIBLE * self.energy[best[0]]]
            self.left = left
            self.free[stalled] &= self.chosen[stalled]

    def outcomes(self, bounds: Tensor | None) -> Tensor:
        gradient = (self.correlations - self.codes @ self.gram).abs() * self.chosen
        missed = torch.zeros_like(self.left)
        if bounds is not None:
            missed = (self.left.sqrt() > bounds + _REACHED * self.energy.sqrt()).double()
        return torch.stack([self.left, gradient.amax(1), missed], dim=1)

    def _best(self, open_rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rows that gain from one more atom, and which."""
        ids = torch.nonzero(open_rows)[:, 0]
        values = self.correlations[ids] - self.codes[ids] @ self.gram
        rest = self._rest(ids) if self.by_error else self.square
        allowed = self.free[ids] & ~self.chosen[ids] & (rest > _DEPENDENT * self.square)
        if self.nonnegative:
            allowed &= values > 0
        scores = torch.where(allowed, values.square() / torch.where(allowed, rest, 1.0), 0.0)
        if ids.numel() == 0:
            return None
        top, atom = scores.max(1)
        gains = top > _NEGLIGIBLE * self.energy[ids]
        return (ids[gains], atom[gains]) if bool(gains.any()) else None

    def _join(self, ids: Tensor, atoms: Tensor) -> bool:
        """Add an atom to each of those rows and refit; False where all of them depended on what was there."""
        self.chosen[ids, atoms] = True
        target, independent = self._refit(ids)
        refused = ids[~independent], atoms[~independent]
        self.chosen[refused], self.free[refused] = False, False
        ids, target = ids[independent], target[independent]
        while self.nonnegative and ids.numel():
            wrong = self.chosen[ids] & (target <= 0)
            fine = ~wrong.any(1)
            self.codes[ids[fine]] = target[fine]
            ids, target, wrong = ids[~fine], target[~fine], wrong[~fine]
            if ids.numel() == 0:
                return True
            codes = self.codes[ids]
            lengths = torch.where(wrong, codes / (codes - target), torch.inf)
            length = lengths.amin(1, keepdim=True)
            codes = codes + length * (target - codes)
            leaving = (lengths == length) | (wrong & (codes <= 0))
            self.chosen[ids] &= ~leaving
            self.free[ids] = (self.square > 0).expand_as(leaving)
            self.codes[ids] = torch.where(self.chosen[ids], codes.clamp_min(0), 0.0)
            target, _ = self._refit(ids)
        self.codes[ids] = target
        return bool(independent.any())

    def _refit(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Least squares on each support, (n, n_atoms); and whether the support is independent."""
        places, valid, factor = self._factor(ids)
        pivots = factor.diagonal(dim1=1, dim2=2).square()
        independent = (pivots > _DEPENDENT * torch.where(valid, self.square[places], 1.0)).all(1)
        codes = torch.zeros_like(self.correlations[ids])
        for _ in range(2):  # once to solve, once to refine
            remainder = (self.correlations[ids] - codes @ self.gram).gather(1, places) * valid
            change = torch.cholesky_solve(remainder[:, :, None], factor)[:, :, 0] * valid
            codes.scatter_add_(1, places, change)
        return codes, independent

    def _rest(self, ids: Tensor) -> Tensor:
        """Squared norm of each atom outside the span of the row's support."""
        if not bool(self.chosen[ids].any()):
            return self.square.expand(len(ids), -1)
        places, valid, factor = self._factor(ids)
        columns = self.gram[places] * valid[:, :, None]
        inside = torch.linalg.solve_triangular(factor, columns, upper=False)
        return self.square - inside.square().sum(1)

    def _factor(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places of the supports (n, k), which of them count, and the Cholesky factors of their Gram matrices."""
        chosen = self.chosen[ids]
        size = max(1, int(chosen.sum(1).max()) if len(ids) else 1)
        valid, places = chosen.to(torch.uint8).topk(size, dim=1)
        valid = valid.bool()
        blocks = self.gram[places[:, :, None], places[:, None, :]] * (valid[:, :, None] & valid[:, None, :])
        blocks = blocks + torch.diag_embed((~valid).double())
        factor, _ = torch.linalg.cholesky_ex(blocks)
        return places, valid, factor.nan_to_num(0.0, 0.0, 0.0)
