"""What an adapter adds to a weight: small matrices B against tall sources S, ``delta[o, i] = sum_j S[o, j, i] B[j]``.

S holds the frozen coefficients alpha, laid out (o', m, i') for o' x i' rows of the kernel matrix, or, where the codes
are a linear map alpha = F V of the kernels, the kernels F themselves; then B is ``V dD`` and alpha is never stored.
In this layout a channels-last weight (o, *k, i) is one batched product, sum included, with no copy in between; its
gradient ``dB = sum_o S[o] dW[o]^T`` is another, and nothing else is differentiated (Chen, Miao and Qiu,
arXiv:2403.00269, equations 2 to 4).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.conv.packed import Packed
from ..engine.conv.patches import mapped_gradient, mapped_sum, packed_gradient, packed_sum, quick
from ..engine.conv.repack import to_rows, to_weight
from ..kernels import KernelLayout

_NARROW = 8  # input channels below which batched products are slower than one tall one


@dataclass(frozen=True)
class BaseWeight:
    """The base weight F, in its stored shape, as a source: that of linear codes."""

    weight: Tensor
    dtype: torch.dtype


@dataclass(frozen=True)
class Summand:
    """One summand: source S (o', m, i'), packed or F, and small matrix B, (m, d) or one for each input channel,
    (i', m, d)."""

    layout: KernelLayout
    source: Tensor | Packed | BaseWeight
    matrix: Tensor


def collapse(atoms: Tensor, levels: list[Tensor]) -> Tensor:
    """The atoms that expanded atoms stand for: ``D[i] = sum_j alpha_1[i, j] D_1[i, j]``, level by level.

    atoms (m, m_1, ..., m_n, d), levels alpha_1 to alpha_n with alpha_l of shape (m, m_1, ..., m_l); alpha_1 may have a
    leading axis of input channels, which the result, (m, d) else, then has too.
    """
    for coefficients in reversed(levels):
        atoms = (coefficients[..., None, :] @ atoms)[..., 0, :]
    return atoms


def blocked_atoms(block_atoms: Tensor, atoms: Tensor, layout: KernelLayout) -> Tensor:
    """``dD_c x D``: the patches (m_c, p d q) of the kernel that block atoms (m_c, p m q) of alpha stand for.

    atoms (m, d), or (i, m, d) for each input channel; then (i / q, m_c, p d q). ``layout`` is that of alpha.
    """
    p, m, q = layout.patch_shape
    parts = block_atoms.reshape(-1, p, m, q)
    if atoms.ndim == 2:
        return torch.einsum("apmq,md->apdq", parts, atoms).flatten(1)
    return torch.einsum("apmq,iqmd->iapdq", parts, atoms.unflatten(0, (-1, q))).flatten(2)


def by_input(rows: Tensor, layout: KernelLayout) -> Tensor:
    """A kernel matrix (n_rows, m) as the view (o', m, i')."""
    return rows.unflatten(0, (-1, layout.input_channels)).transpose(1, 2)


def by_row(source: Tensor) -> Tensor:
    """The inverse of by_input: (o', m, i') as (n_rows, m)."""
    return source.transpose(1, 2).flatten(0, 1)


def product(term: Summand) -> Tensor:
    """``S x B`` in the stored shape of the weight."""
    source = dense(term)
    if term.matrix.ndim == 3:
        rows = torch.bmm(source.permute(2, 0, 1), term.matrix).transpose(0, 1).flatten(0, 1)
    else:
        rows = by_row(source) @ term.matrix
    return to_weight(term.layout, rows)


def dense(term: Summand) -> Tensor:
    """S as (o', m, i')."""
    if isinstance(term.source, Packed):
        return by_input(term.source.unpacked(), term.layout)
    if isinstance(term.source, BaseWeight):
        if _is_plain(term.layout):
            return term.source.weight.flatten(2).transpose(1, 2).to(term.source.dtype)
        return by_input(to_rows(term.layout, term.source.weight).to(term.source.dtype), term.layout)
    return term.source


def summed(weight: Tensor, terms: list[Summand]) -> Tensor:
    """``weight + sum of the terms`` in the weight's shape, dtype and memory format, summed in the terms' precision.

    Where every B is zero the result equals the weight bit for bit.
    """
    if len(terms) == 1 and _lands_in_place(weight, terms[0]):
        source, matrix = dense(terms[0]), terms[0].matrix
        flat = weight.flatten(2).transpose(1, 2)  # (o, k, i), dense in channels-last memory
        total = torch.baddbmm(flat, matrix.T.expand(flat.shape[0], -1, -1), source)
        return total.transpose(1, 2).unflatten(2, terms[0].layout.kernel_size)
    if not terms:
        return weight
    total = weight.to(terms[0].matrix.dtype)
    for term in terms:
        total = _plus(total, term)
    return total.to(weight.dtype)


def matrix_gradient(term: Summand, to_weight: Tensor) -> Tensor:
    """``dB = sum_o S[o] dW[o]^T`` of a summand, for the gradient dW in the weight's stored shape, in B's dtype."""
    source, matrix, layout = term.source, term.matrix, term.layout
    to_weight = to_weight.to(matrix.dtype)
    if isinstance(source, Packed) and matrix.ndim == 2 and quick(layout, to_weight, source.values, matrix):
        return packed_gradient(to_weight, source.values, source.indices, source.n_atoms, *layout.block)
    kernels = _quick_kernels(term, to_weight)
    if kernels is not None:
        return mapped_gradient(to_weight, kernels, *layout.block)
    if _is_plain(layout):
        lines = to_weight.flatten(2)  # (o, i, k)
    else:
        lines = to_rows(layout, to_weight).unflatten(0, (-1, layout.input_channels))
    if matrix.ndim == 3:
        return torch.bmm(dense(term).permute(2, 1, 0), lines.transpose(0, 1))
    if _is_plain(layout) and layout.input_channels >= _NARROW:
        return torch.bmm(dense(term), lines).sum(0)
    return by_row(dense(term)).T @ lines.flatten(0, 1)


def _quick_kernels(term: Summand, other: Tensor) -> Tensor | None:
    """F as a source that the one-pass operators take beside ``other``, a sum or a gradient; None where they do not."""
    source, matrix = term.source, term.matrix
    if not isinstance(source, BaseWeight) or matrix.ndim != 2 or not quick(term.layout, other, matrix, mapped=True):
        return None
    weight = source.weight.to(source.dtype)
    return weight if quick(term.layout, weight, mapped=True) else None


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Autocast off, for the device of a tensor: sums of weights are made in their own precision."""
    kind = "cpu" if tensor.is_meta else tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _is_plain(layout: KernelLayout) -> bool:
    """Whether the stored weight is (o, i, k): a row of the kernel matrix for each channel pair."""
    return layout.block == (1, 1) and layout.kind in ("conv1d", "conv2d", "conv3d")


def _plus(total: Tensor, term: Summand) -> Tensor:
    source, matrix, (p, q) = term.source, term.matrix, term.layout.block
    if isinstance(source, Packed) and matrix.ndim == 2 and quick(term.layout, total, source.values, matrix):
        return packed_sum(total, source.values, source.indices, matrix, p, q)
    kernels = _quick_kernels(term, total)
    if kernels is not None:
        return mapped_sum(total, kernels, matrix, p, q)
    return total + product(term)


def _lands_in_place(weight: Tensor, term: Summand) -> bool:
    """Whether the batched product gives the weight's own memory format."""
    layout = term.layout
    return (
        _is_plain(layout)
        and layout.kind != "conv1d"
        and layout.input_channels >= _NARROW
        and term.matrix.ndim == 2
        and weight.dtype == term.matrix.dtype
        and weight.flatten(2).transpose(1, 2).is_contiguous()
    )
