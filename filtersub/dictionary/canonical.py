"""What the problem leaves open is fixed: the sign of each atom, and their order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..engine.threads import chunks, for_each


def canonical_(atoms: Tensor, codes: Tensor, *, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """Atoms ordered by falling energy of their codes, each with its largest entry (in absolute value) positive.

    atoms (n_atoms, d), codes (n_rows, n_atoms), which are changed in place where they are on the CPU. With nonnegative
    codes the sign is not open, and stays. The first of equal entries decides the sign; atoms of equal energy keep
    their order.
    """
    energy = _energy(codes)
    order = energy.argsort(descending=True, stable=True)
    peaks = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))[:, 0]
    signs = torch.where((peaks < 0) & (not nonnegative), -1.0, 1.0).to(atoms.dtype)[order]
    atoms = atoms[order] * signs[:, None]
    if codes.is_cuda or not codes.is_contiguous():
        return atoms, codes[:, order] * signs
    if bool((signs < 0).any()) or not torch.equal(order, torch.arange(len(order))):
        from ..engine.dictionary import rearrange

        there, wanted, turned = codes.numpy(), order.numpy(), signs.numpy()
        for_each(lambda begin, end, _: rearrange(there, begin, end, wanted, turned), chunks(len(codes)))
    return atoms, codes


def _energy(codes: Tensor) -> Tensor:
    """Squares of the codes of each atom, summed in float64 over fixed chunks."""
    if codes.is_cuda or not codes.is_contiguous():
        return torch.stack([part.double().square().sum(0) for part in codes.split(1 << 16)]).sum(0)
    from ..engine.dictionary import add_energy

    parts = chunks(len(codes))
    totals, there = np.zeros((len(parts), codes.shape[1])), codes.numpy()
    for_each(lambda begin, end, number: add_energy(there, begin, end, totals[number]), parts)
    return torch.from_numpy(totals.sum(0))
