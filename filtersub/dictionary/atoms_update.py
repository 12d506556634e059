"""Atoms for fixed codes: each at its best place on the unit sphere, dead ones replaced by what is missed most."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..sparse_coding.linear import second_moment
from .statistics import Statistics

_SWEEPS = 3  # of block-coordinate updates between two codings; more change the outcome little


def update_atoms(rows: Tensor, atoms: Tensor, codes: Tensor) -> Tensor:
    """Each atom in turn moved to its best place on the unit sphere, the others and the codes fixed.

    rows (n_rows, d), atoms (n_atoms, d), codes (n_rows, n_atoms). An atom that no code refers to (a dead atom)
    becomes the direction of a row that the others reconstruct worst. Never raises ``1/2 ||rows - codes atoms||_F^2``.
    """
    gram, target = second_moment(codes).cpu().numpy(), second_moment(codes, rows).cpu().numpy()
    moved = moved_atoms(Statistics(gram, target, 0.0, 0.0), atoms.detach().double().cpu().numpy())
    dead = np.flatnonzero(np.diagonal(gram) <= 0)
    if dead.size:
        worst, _ = worst_reconstructed(rows, torch.from_numpy(moved).to(rows), codes, dead.size)
        moved[dead[: len(worst)]] = worst
    return torch.from_numpy(moved).to(atoms)


def moved_atoms(statistics: Statistics, atoms: np.ndarray) -> np.ndarray:
    """The living atoms at their best places; dead ones stay."""
    from ..engine.dictionary import sweep_atoms

    moved = np.array(atoms, dtype=np.float64, order="C")
    sweep_atoms(statistics.gram, statistics.target, moved, _SWEEPS)
    return moved


def worst_reconstructed(rows: Tensor, atoms: Tensor, codes: Tensor, count: int) -> tuple[np.ndarray, float]:
    """Unit-norm directions, float64, of the ``count`` rows with the largest residuals, and the largest ||residual||.

    Rows that are reconstructed exactly are left out.
    """
    parts = zip(rows.split(1 << 16), codes.split(1 << 16), strict=True)
    errors = torch.cat([(part - code @ atoms).square().sum(1) for part, code in parts])
    order = errors.topk(min(count, len(errors)))
    chosen = order.indices[order.values > 0]
    worst = rows[chosen].double()
    largest = float(order.values[0].double().sqrt()) if len(errors) else 0.0
    return (worst / worst.norm(dim=1, keepdim=True)).cpu().numpy(), largest
