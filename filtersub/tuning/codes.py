"""The frozen coefficients of a layer: stored, or V alone where they are a linear map ``alpha = F V`` of the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..decomposition.cache import cached_weight
from ..decomposition.layer import repeated, with_energy
from ..engine.conv.packed import Packed, pack
from ..fingerprint import fingerprint
from ..kernels import KernelLayout, kernel_matrix
from ..sparse_coding import encode, principal_atoms
from ..sparse_coding.linear import second_moment
from .update import by_input


@dataclass(frozen=True)
class FrozenCodes:
    """alpha as (o', m, i'), packed where sparse, or V (d, m); the dictionary D (m, d); the fingerprint (m,) of alpha;
    the rounds of dictionary learning that were needed (0 where V is computed at once). Where alpha is decomposed in
    blocks, alpha_c as (o'', m_c, i''), whose fingerprint (m_c,) follows alpha's."""

    coefficients: Tensor | Packed | None
    mapping: Tensor | None
    dictionary: Tensor
    fingerprint: Tensor
    rounds: int = 0
    block_coefficients: Tensor | None = None


def frozen_codes(
    layout: KernelLayout, weight: Tensor, layer: nn.Module, recipe: DecompositionConfig, *, hold: bool
) -> FrozenCodes:
    """Decompose a base weight; on the meta device only shapes are made.

    ``hold`` false (linear codes only) computes V from the second moment of the kernels: no alpha is ever made.
    """
    n_atoms, d, part = recipe.n_atoms(layout), layout.patch_size, recipe.coefficient_part(layout)
    dtype = torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
    if weight.device.type == "meta":
        shapes = {"alpha": (layout.n_rows // layout.input_channels, n_atoms, layout.input_channels), "V": (d, n_atoms)}
        made = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
        dictionary = torch.empty(n_atoms, d, dtype=dtype, device="meta")
        blocks = None if part is None else by_input(torch.empty(coefficient_shape(*part), device="meta"), part[0])
        n_sums = n_atoms + (0 if part is None else part[1].n_atoms(part[0]))
        printed = torch.empty(n_sums, dtype=torch.float64, device="meta")
        alpha, mapping = (made["alpha"], None) if hold else (None, made["V"])
        return FrozenCodes(alpha, mapping, dictionary, printed, block_coefficients=blocks)
    if hold:
        found = cached_weight(layout, weight, recipe)
        alpha = pack(layout, found.coefficients) or by_input(found.coefficients, layout).contiguous()
        printed, rounds, blocks = fingerprint(found.coefficients), found.iterations, None
        if found.blocks is not None:
            blocks = by_input(found.blocks.coefficients, found.blocks.layout).contiguous()
            printed = torch.cat([printed, fingerprint(found.blocks.coefficients)])
            rounds += found.blocks.iterations
        return FrozenCodes(alpha, None, found.atoms, printed, rounds, blocks)
    rows = kernel_matrix(layout, weight)
    dictionary = _canonical_signs(principal_atoms(rows.to(dtype), recipe.distinct_atoms(layout)))
    mapping = linear_mapping(dictionary, recipe)
    if not recipe.limit_atoms:
        moment = second_moment(rows).double()
        kept = with_energy((mapping.double().T @ moment.to(mapping.device) * mapping.double().T).sum(1))
        dictionary, mapping = repeated(dictionary[kept], mapping[:, kept], n_atoms)
    return FrozenCodes(None, mapping, dictionary, mapped_fingerprint(layout, weight, mapping))


def coefficient_shape(layout: KernelLayout, recipe: DecompositionConfig) -> tuple[int, int]:
    """(n_rows, n_atoms) of a layer's coefficients."""
    return layout.n_rows, recipe.n_atoms(layout)


def linear_mapping(dictionary: Tensor, recipe: DecompositionConfig) -> Tensor:
    """V (d, m) with codes = rows V, for a solver with linear codes: what it makes of the identity."""
    identity = torch.eye(dictionary.shape[1], dtype=torch.float64, device=dictionary.device)
    coded = encode(identity, dictionary.double(), recipe.solver, l1_penalty=recipe.l1_penalty)
    return coded.codes.to(dictionary.dtype)


def mapped_fingerprint(layout: KernelLayout, weight: Tensor, mapping: Tensor) -> Tensor:
    """The fingerprint of ``alpha = F V`` without alpha: fingerprints are linear."""
    return fingerprint(layout.to_rows(weight.detach())) @ mapping.double().to(weight.device)


def _canonical_signs(atoms: Tensor) -> Tensor:
    """Each atom's largest entry positive, as in every learned dictionary."""
    peaks = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))
    return torch.where(peaks < 0, -atoms, atoms)
