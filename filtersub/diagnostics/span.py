"""How much of a change of the kernels lies in the span of frozen coefficients: what filter atoms could have learnt.

Tuned atoms change a kernel matrix by ``alpha x dD``. Whatever dD is, each column of that change is a combination of the
columns of alpha. So of the change dW = W1 - W0 that full tuning makes, atoms can learn at most ``P dW`` with
``P = alpha alpha^+``, the orthogonal projector onto the columns of alpha (Chen, Miao and Qiu, arXiv:2403.00269,
equation 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..decomposition import ModelDecomposition
from ..decomposition.expansion import atoms_above, channel_level, squared_norm, squared_residual
from ..errors import FiltersubError
from ..fingerprint import fingerprint, same_fingerprint
from ..kernels import kernel_matrix, named_layers
from ..settings import check_whole
from .kernels import rows_and_rebuilt

_CHUNK = 64  # input channels worked on at once


@dataclass(frozen=True)
class Reach:
    """What atoms over frozen coefficients can make of a change.

    Attributes
    ----------
    share : ``||P dW||_F^2 / ||dW||_F^2``, NaN where nothing changed. Where m_1 per-channel atoms are fewer than
        min(c', d), the reachable set is no linear space, and this is the share of the best member that alternating
        least squares found: at least so much can be reached, at most ``at_most``
    at_most : the share of the smallest linear space that holds everything reachable; else equal to ``share``
    expected : the share of a change with independent Gaussian entries: rank / n_rows. Where the set is no linear space,
        that of one such change, drawn from a fixed seed
    rank : of alpha; where each input channel has atoms of its own, the sum of the ranks of the channels' rows
    free : dimensions of the reachable set: rank x d, or at most m m_1 (c' + d - m_1) where that is no linear space
    """

    share: float
    at_most: float
    expected: float
    rank: int
    free: int


def reach(codes: Tensor, change: Tensor, *, per_channel: int | None = None, channels: int = 1) -> Reach:
    """What atoms over ``codes`` can make of ``change``, in float64.

    Parameters
    ----------
    codes : Tensor (n_rows, m), the frozen alpha
    change : Tensor (n_rows, d), the change dW of the kernel matrix
    per_channel : m_1 where the atoms of input channel c are ``dD[c, i] = sum_j d-alpha_1[c, i, j] dD_1[i, j]``. None:
        one dD for all channels. Atoms that are expanded with one alpha_1 for all channels reach exactly what plain
        atoms do, since any dD is ``alpha_1 x dD_1`` for some dD_1
    channels : c', the input channels of a group; row (o, c) belongs to channel c, which runs fastest

    The rank counts the singular values of alpha (of each channel's rows) above ``(eps + n_rows eps_64) ||alpha||_F``:
    rounding to the dtype of the codes moves no singular value by more than eps times that norm (Weyl), and n_rows
    eps_64 bounds the rounding of the factorisation, which is made in float64.
    Raises FiltersubError where shapes disagree or per_channel is not positive.
    """
    _check(codes, change, per_channel, channels)
    groups = 1 if per_channel is None else channels
    rank, reached = _projected_energy(codes, change, groups)
    energy, d = squared_norm(change), change.shape[1]
    linear = min(reached / energy, 1.0) if energy > 0 else float("nan")  # rounding may pass 1
    whole = min(channels, d)
    if per_channel is None or per_channel >= whole:
        return Reach(linear, linear, rank / codes.shape[0], rank, rank * d)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(change.shape)).to(change.device)
    share, expected = (_alternated(codes, matrix, per_channel, channels) for matrix in (change, noise))
    free = min(rank * d, codes.shape[1] * per_channel * (channels + d - per_channel))
    return Reach(share, linear, expected, rank, free)


def span_table(
    base: nn.Module | Mapping[str, Tensor],
    tuned: nn.Module | Mapping[str, Tensor],
    decomposition: ModelDecomposition,
    *,
    per_channel: int | None = None,
) -> pd.DataFrame:
    """What atoms could have learnt of the change from ``base`` to ``tuned``, one row a layer of the decomposition.

    Parameters
    ----------
    base : the model, or its tensors by name, that was decomposed
    tuned : the same model after full tuning
    decomposition : of ``base``: its coefficients are the frozen alpha
    per_channel : m_1 of atoms that each input channel combines in its own way, see reach

    Returns
    -------
    DataFrame
        name, kind, shape, block, m, solver, per_channel (m_1, 0 for none), rows, size (d), atoms, rank, free (see
        Reach), trained (parameters of the atoms and of d-alpha_1), energy (``||dW||_F^2``), relative_change
        (``||dW||_F / ||W0||_F``), share, at_most, expected.

    Raises FiltersubError where a layer is missing or has another shape in either model, where ``base`` is not the model
    that was decomposed, and for ``block_coefficients``, with which alpha itself changes.
    """
    after, found = dict(named_layers(tuned)), []
    for name, layer, rows, _ in rows_and_rebuilt(base, decomposition):
        if layer.weight_fingerprint and not same_fingerprint(fingerprint(rows), _as_tensor(layer.weight_fingerprint)):
            raise FiltersubError(f"layer {name!r} of the base model is not the one that was decomposed; decompose it")
        if name not in after:
            raise FiltersubError(f"the tuned model has no layer {name!r}, so it is not this model tuned")
        change = kernel_matrix(layer.layout, after[name]).double() - rows
        channels, atoms = layer.layout.input_channels, layer.coefficients.shape[1]
        recipe = decomposition.recipe_of(name)
        if recipe.block_coefficients:
            raise FiltersubError(f"layer {name!r} has blocks of alpha, whose updates leave the span of alpha")
        possible = reach(layer.coefficients, change, per_channel=per_channel, channels=channels)
        before, energy = squared_norm(rows), squared_norm(change)
        sizes = {"rows": rows.shape[0], "size": rows.shape[1], "atoms": atoms, "rank": possible.rank}
        one_atom = rows.shape[1] if per_channel is None else per_channel * (rows.shape[1] + channels)
        found.append(
            {
                **{"name": name, "kind": layer.layout.kind, "shape": list(layer.layout.shape)},
                **{"block": list(layer.layout.block), "m": recipe.atoms, "solver": layer.solver},
                **{"per_channel": per_channel or 0, **sizes, "free": possible.free, "trained": atoms * one_atom},
                **{"energy": energy, "relative_change": (energy / before) ** 0.5 if before > 0 else float("nan")},
                **{"share": possible.share, "at_most": possible.at_most, "expected": possible.expected},
            }
        )
    return pd.DataFrame(found)


def span_total(table: pd.DataFrame) -> pd.DataFrame:
    """A span_table in one row: layers, weights, free, trained, energy, share, at_most, expected.

    Shares are those of all layers' changes together, each weighted by its energy ``||dW||_F^2``; ``expected`` is that
    of random changes of the same energies.
    """
    row = {"layers": len(table), "weights": int((table["rows"] * table["size"]).sum())}
    row |= {name: int(table[name].sum()) for name in ("free", "trained")}
    total = float(table["energy"].sum())
    shares = {
        name: float((table["energy"] * table[name]).sum()) / total if total > 0 else float("nan")
        for name in ("share", "at_most", "expected")
    }
    return pd.DataFrame([{**row, "energy": total, **shares}])


def _check(codes: Tensor, change: Tensor, per_channel: int | None, channels: int) -> None:
    if codes.ndim != 2 or change.ndim != 2 or codes.shape[0] != change.shape[0]:
        raise FiltersubError(
            f"coefficients (n_rows, m) and a change (n_rows, d) are wanted, got {tuple(codes.shape)} and "
            f"{tuple(change.shape)}"
        )
    if per_channel is not None:
        check_whole("per_channel, m_1,", per_channel, 1)
    check_whole("channels", channels, 1)
    if codes.shape[0] % channels:
        raise FiltersubError(f"{codes.shape[0]} rows do not divide over {channels} input channels")


def _projected_energy(codes: Tensor, change: Tensor, groups: int) -> tuple[int, float]:
    """(rank, squared norm of the projection), summed over groups of rows: row r is of group r modulo ``groups``."""
    by_group = codes.reshape(-1, groups, codes.shape[1]).transpose(0, 1)
    change_of = change.reshape(-1, groups, change.shape[1]).transpose(0, 1)
    rank, energy = 0, 0.0
    for start in range(0, groups, _CHUNK):
        part = slice(start, start + _CHUNK)
        basis, kept = _column_basis(by_group[part])
        lines = basis.mT @ change_of[part].double()  # (groups, m, d)
        rank += int(kept.sum())
        energy += float((lines.square().sum(-1) * kept).sum())
    return rank, energy


def _column_basis(codes: Tensor) -> tuple[Tensor, Tensor]:
    """(orthonormal columns (g, n, k) in float64, which of them the column space of codes (g, n, m) needs (g, k))."""
    tolerance = torch.finfo(codes.dtype).eps + codes.shape[1] * torch.finfo(torch.float64).eps
    wide = codes.double()
    orthonormal, triangle = torch.linalg.qr(wide)
    left, values, _ = torch.linalg.svd(triangle, full_matrices=False)
    kept = values > tolerance * torch.linalg.matrix_norm(wide)[:, None]
    return orthonormal @ left, kept


def _alternated(codes: Tensor, change: Tensor, size: int, channels: int) -> float:
    """The share of ``change`` that m_1 = ``size`` atoms per input channel reach, by alternating least squares."""
    energy = squared_norm(change)
    if not energy > 0:
        return float("nan")
    codes, change = codes.double(), change.double()
    common = torch.linalg.lstsq(codes, change).solution
    _, alpha, next_atoms = channel_level(change, codes, common, size, channels)
    left = squared_residual(change, codes, atoms_above(alpha, next_atoms))
    plain = squared_residual(change, codes, common)  # one dD for all channels is reachable too
    return max(1.0 - min(left, plain) / energy, 0.0)


def _as_tensor(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
