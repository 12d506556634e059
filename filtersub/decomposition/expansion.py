"""Atoms made of atoms, to any depth: ``D = alpha_1 x D_1``, ``D_1 = alpha_2 x D_2``, and so on.

Each atom of D has m_1 atoms of its own (Chen, Miao and Qiu, arXiv:2403.00269, "overcomplete filter subspace"). Two
readings of alpha_1: shared by all input channels, ``D[i] = sum_j alpha_1[i, j] D_1[i, j]``, or one per input channel,
``D[c, i] = sum_j alpha_1[c, i, j] D_1[i, j]``, so that the kernels of input channel c have atoms D[c] of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn

_RIDGE = 1e-3  # pull of a channel's own atoms towards the common ones, over the mean energy of a channel's codes
_ROUNDS = 10  # of alternating least squares between alpha_1 per channel and D_1; the error never rises
_CHUNK = 64  # input channels, or level atoms, worked on at once
_ENTRIES = 30_000  # turned into float64 at once: they stay in the cache, and torch takes one thread for so few


@dataclass(frozen=True)
class Level:
    """One level: the atoms above are ``coefficients x atoms``, summed over the last axis before d.

    Attributes
    ----------
    coefficients : alpha_l of shape (m, m_1, ..., m_l); alpha_1 per channel: (c', m, m_1)
    atoms : D_l of shape (m, m_1, ..., m_l, d)
    atoms_error : ||D_{l-1} - alpha_l x D_l||_F / ||D_{l-1}||_F; for alpha_1 per channel D_0 are the least-squares atoms
        of each input channel
    weight_error : ||F - alpha x (alpha_1 x ... (alpha_l x D_l))||_F / ||F||_F, the whole chain put into the weight
    """

    coefficients: Tensor
    atoms: Tensor
    atoms_error: float
    weight_error: float

    @property
    def per_channel(self) -> bool:
        return self.coefficients.ndim == self.atoms.ndim


def atoms_above(coefficients: Tensor, atoms: Tensor) -> Tensor:
    """``alpha_l x D_l``: (m, ..., m_{l-1}, d), or (c', m, d) for alpha_1 per channel."""
    if coefficients.ndim == atoms.ndim:
        return torch.einsum("cij,ijd->cid", coefficients, atoms)
    return (coefficients[..., None] * atoms).sum(-2)


def chained_atoms(levels: tuple[Level, ...]) -> Tensor:
    """The atoms that a chain of levels amounts to: (m, d), or (c', m, d) where alpha_1 is per channel."""
    atoms = levels[-1].atoms
    for level in reversed(levels):
        atoms = atoms_above(level.coefficients, atoms)
    return atoms


def combine(codes: Tensor, atoms: Tensor) -> Tensor:
    """``codes x atoms`` (n_rows, d), for atoms (m, d), or (c', m, d) with row (o, c) using the atoms of channel c."""
    if atoms.ndim == 2:
        return codes @ atoms
    by_channel = codes.reshape(-1, atoms.shape[0], codes.shape[1])
    return torch.einsum("ocm,cmd->ocd", by_channel, atoms).reshape(codes.shape[0], -1)


def squared_residual(rows: Tensor, codes: Tensor, atoms: Tensor) -> float:
    """``||rows - codes x atoms||_F^2`` in float64, in chunks: no copy of the matrix is made."""
    step = max(1, _ENTRIES // max(atoms.shape[-2:]))
    if atoms.ndim == 3:
        step = -(-step // atoms.shape[0]) * atoms.shape[0]
    atoms, total = atoms.double(), rows.new_zeros((), dtype=torch.float64)
    for start in range(0, rows.shape[0], step):
        part = slice(start, start + step)
        # not in place: float64 rows are the weight
        residual = rows[part].double() - combine(codes[part].double(), atoms)
        total += torch.linalg.vector_norm(residual).square()
    return float(total)


def expand(
    rows: Tensor,
    codes: Tensor,
    atoms: Tensor,
    sizes: tuple[int, ...],
    *,
    channels: int | None = None,
    seed: int = 0,
) -> tuple[Level, ...]:
    """Levels of atoms below ``atoms`` (m, d), m_1, m_2, ... of them for each atom above.

    Shared levels take a Kaiming-uniform alpha_l (seeded, fan-in m_l) and the D_l of least norm that gives the atoms
    above exactly, ``D_l[..., j] = alpha_l[..., j] D_{l-1}[...] / ||alpha_l[...]||^2``: their error is zero up to
    rounding, since m_l >= 1 free atoms can always make one. They are a starting point for tuning, not a compression.

    With ``channels`` (c'; rows are (o, c) with c running fastest) alpha_1 is per channel: see channel_level.
    """
    levels: tuple[Level, ...] = ()
    level_atoms, norm = atoms, squared_norm(rows)
    generator = torch.Generator().manual_seed(seed)
    for depth, size in enumerate(sizes):
        if depth == 0 and channels is not None:
            target, coefficients, next_atoms = channel_level(rows, codes, atoms, size, channels)
        else:
            target = level_atoms
            coefficients = _kaiming(level_atoms.shape[:-1], size, generator).to(level_atoms)
            square = coefficients.square().sum(-1)[..., None, None].clamp_min(torch.finfo(level_atoms.dtype).tiny)
            next_atoms = coefficients[..., None] * level_atoms[..., None, :] / square
        gap = (target - atoms_above(coefficients, next_atoms)).double().norm()
        gap = gap / target.double().norm().clamp_min(1e-300)
        candidate = Level(coefficients, next_atoms, float(gap), 0.0)
        error = squared_residual(rows, codes, chained_atoms((*levels, candidate)))
        weight_error = (error / norm) ** 0.5 if norm > 0 else 0.0
        levels = (*levels, replace(candidate, weight_error=weight_error))
        level_atoms = next_atoms
    return levels


def channel_level(
    rows: Tensor, codes: Tensor, atoms: Tensor, size: int, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(D[c] of shape (c', m, d), alpha_1 (c', m, m_1), D_1 (m, m_1, d)) for given codes.

    First the best atoms of each input channel, ``min over D[c] of ||rows_c - codes_c D[c]||^2 + r ||D[c] - D||^2``,
    drawn to the common D by a small r, so that channels with fewer rows than atoms are stable; never worse than D.
    Then the singular vectors of each atom's (c', d) matrix D[:, i], weighted by the energy of its codes, give m_1
    atoms; where m_1 exceeds min(c', d) the surplus atoms and coefficients are zero. Last alternating least squares of
    ``||rows - codes x (alpha_1 x D_1)||^2`` in alpha_1 and D_1, which never raises it.
    """
    gram, target = _channel_statistics(rows, codes, channels)
    common = atoms.double()
    ridge = (_RIDGE * gram.diagonal(dim1=1, dim2=2).mean()).clamp_min(1e-30)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    own = torch.linalg.solve(gram + ridge * eye, target + ridge * common)
    weights = (gram.diagonal(dim1=1, dim2=2) + ridge).sqrt().T[..., None]  # (m, c', 1)
    left, values, right = torch.linalg.svd(weights * own.transpose(0, 1), full_matrices=False)
    kept = min(size, values.shape[1])
    next_atoms = common.new_zeros(common.shape[0], size, common.shape[1])
    next_atoms[:, :kept] = right[:, :kept]
    alpha = common.new_zeros(channels, common.shape[0], size)
    alpha[..., :kept] = (left[..., :kept] * values[:, None, :kept] / weights).transpose(0, 1)
    if kept == size:  # with surplus atoms the factorisation is exact already
        alpha, next_atoms = _alternate(gram, target, alpha, next_atoms)
    norms = next_atoms.norm(dim=-1)
    peaks = next_atoms.gather(-1, next_atoms.abs().argmax(-1, keepdim=True))[..., 0]
    scale = torch.where(norms > 0, norms, 1.0) * torch.where(peaks < 0, -1.0, 1.0)  # unit norm, largest entry positive
    return own.to(atoms), (alpha * scale).to(atoms), (next_atoms / scale[..., None]).to(atoms)


def _alternate(gram: Tensor, target: Tensor, alpha: Tensor, next_atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Alternating least squares from the statistics of each channel; a proximal term keeps each solve stable."""
    (channels, m, size), d = alpha.shape, next_atoms.shape[-1]
    wide = m * size
    for _ in range(_ROUNDS):
        flat = next_atoms.reshape(wide, d)
        products = flat @ flat.T
        for start in range(0, channels, _CHUNK):
            part = slice(start, start + _CHUNK)
            codes_gram = gram[part].repeat_interleave(size, 1).repeat_interleave(size, 2)
            right = (target[part].repeat_interleave(size, 1) * flat).sum(-1)
            alpha[part] = _proximal(codes_gram * products, right[..., None], alpha[part].reshape(-1, wide, 1)).reshape(
                -1, m, size
            )
        normal, right = flat.new_zeros(wide, wide), flat.new_zeros(wide, d)
        for start in range(0, channels, _CHUNK):
            part = slice(start, start + _CHUNK)
            normal += torch.einsum("cim,cij,cmk->ijmk", gram[part], alpha[part], alpha[part]).reshape(wide, wide)
            right += torch.einsum("cij,cid->ijd", alpha[part], target[part]).reshape(wide, d)
        next_atoms = _proximal(normal, right, flat).reshape(m, size, d)
    return alpha, next_atoms


def _proximal(normal: Tensor, right: Tensor, current: Tensor) -> Tensor:
    """argmin of the quadratic form plus a term eps ||x - current||^2."""
    mean = normal.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    pull = (1e-8 * mean).clamp_min(1e-30)
    eye = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    return torch.linalg.solve(normal + pull * eye, right + pull * current)


def _channel_statistics(rows: Tensor, codes: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """(codes^T codes (c', m, m), codes^T rows (c', m, d)) of each input channel, in float64."""
    by_channel, code_of = rows.reshape(-1, channels, rows.shape[1]), codes.reshape(-1, channels, codes.shape[1])
    gram, target = [], []
    for start in range(0, channels, _CHUNK):
        part = code_of[:, start : start + _CHUNK].double().transpose(0, 1)
        gram.append(part.mT @ part)
        target.append(part.mT @ by_channel[:, start : start + _CHUNK].double().transpose(0, 1))
    return torch.cat(gram), torch.cat(target)


def squared_norm(rows: Tensor) -> float:
    """``||rows||_F^2``, accumulated in float64; the residual of codes that are zero, to the bit where d >= m."""
    return _over_parts(rows, lambda part: torch.linalg.vector_norm(part).square())


def absolute_sum(codes: Tensor) -> float:
    """``||codes||_1``, the sum of all absolute values, accumulated in float64."""
    return _over_parts(codes, lambda part: part.abs().sum())


def _over_parts(matrix: Tensor, of: Callable[[Tensor], Tensor]) -> float:
    """A sum over parts in float64: torch takes four times as long for a float64 norm of a large float32 matrix."""
    total = matrix.new_zeros((), dtype=torch.float64)
    for part in matrix.split(max(1, _ENTRIES // max(1, matrix.shape[-1]))):
        total += of(part.double())
    return float(total)


def _kaiming(above: tuple[int, ...], size: int, generator: torch.Generator) -> Tensor:
    """(*above, size), Kaiming uniform with fan-in ``size``."""
    flat = torch.empty(prod(above), size, dtype=torch.float64)
    return nn.init.kaiming_uniform_(flat, generator=generator).reshape(*above, size)
