"""K-SVD: each atom with its coefficients, one at a time, as the best rank-one fit of what the others leave.

Aharon, Elad and Bruckstein, "K-SVD", IEEE Trans. Signal Processing 54(11), 2006. The approximate form, one
power iteration instead of a decomposition, is by Rubinstein, Zibulevsky and Elad, Technion CS-2008-08.
"""

import numpy as np
import torch
from torch import Tensor

from .alternate import Alternation, Coding, Stop, array_of


def learn_ksvd(coder: Coding, atoms: np.ndarray, stop: Stop, *, approximate: bool) -> Alternation:
    """Rounds of (atoms with their codes, then a coding in full) from ``atoms`` (n_atoms, d), float64, unit norm.

    The error never rises: a row whose new code is worse keeps its old one.
    """
    history = [coder.round(atoms).objective]
    coder.accept()
    stop.tell(0, history[-1])
    here = torch.from_numpy(atoms).to(coder.rows)
    for number in range(1, stop.max_rounds + 1):
        moved, refitted = ksvd_update(coder.rows, here, coder.codes, approximate=approximate)
        before, coder.codes = coder.codes, refitted
        state = coder.round(array_of(moved))
        value = state.objective
        if value > history[-1]:
            coder.codes = before
            return Alternation(array_of(here), history, "the error no longer falls, within rounding", True, number)
        coder.accept()
        here = moved
        history.append(value)
        stop.tell(number, value)
        reason = stop.reason(history, coder.rounding * state.energy)
        if reason is not None:
            return Alternation(array_of(here), history, reason, True, number)
    return Alternation(array_of(here), history, f"{stop.max_rounds} rounds spent", not stop.max_rounds, stop.max_rounds)


def ksvd_update(rows: Tensor, atoms: Tensor, codes: Tensor, *, approximate: bool = False) -> tuple[Tensor, Tensor]:
    """One pass over the atoms: ``min ||rows - codes atoms||_F^2`` over one atom and its nonzero codes at a time.

    rows (n_rows, d), atoms (n_atoms, d), codes (n_rows, n_atoms); returns new atoms, of unit norm, and new codes, none
    of them where a code was zero. Exactly (the leading eigenvector of the d x d moment of what the others leave),
    or approximately (one power iteration from the present atom). Neither raises the error. An atom that no code
    refers to becomes the direction of the row that is reconstructed worst. In the dtype of the rows.
    """
    atoms, codes = atoms.clone(), codes.clone()
    residual = rows - codes @ atoms
    taken: set[int] = set()
    for j in range(atoms.shape[0]):
        users = torch.nonzero(codes[:, j])[:, 0]
        if users.numel() == 0:
            _replace(rows, residual, atoms, j, taken)
            continue
        others = residual[users] + codes[users, j, None] * atoms[j]
        if approximate:
            direction = codes[users, j].double() @ others.double()
        else:
            wide = others.double()
            direction = torch.linalg.eigh(wide.T @ wide).eigenvectors[:, -1]
        norm = direction.norm()
        if norm > 0:
            # the sign that keeps the atom near to where it was
            sign = -1.0 if float(direction @ atoms[j].double()) < 0 else 1.0
            atoms[j] = (sign * direction / norm).to(atoms.dtype)
        codes[users, j] = others @ atoms[j]
        residual[users] = others - codes[users, j, None] * atoms[j]
    return atoms, codes


def _replace(rows: Tensor, residual: Tensor, atoms: Tensor, j: int, taken: set[int]) -> None:
    errors = residual.square().sum(1)
    if taken:
        errors[list(taken)] = 0
    worst = int(errors.argmax())
    if errors[worst] > 0:
        taken.add(worst)
        atoms[j] = (rows[worst].double() / rows[worst].double().norm()).to(atoms.dtype)
