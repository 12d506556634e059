"""The frozen coefficients of a layer: stored, or V alone where they are a linear map ``alpha = F V`` of the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..decomposition import DecompositionConfig, decompose_weight
from ..fingerprint import fingerprint
from ..kernels import KernelLayout, kernel_matrix
from ..sparse_coding import encode, principal_atoms
from .packed import Packed, pack
from .update import by_input


@dataclass(frozen=True)
class FrozenCodes:
    """alpha as (o', m, i'), packed where sparse, or V (d, m); the dictionary D (m, d); the fingerprint (m,) of alpha;
    the rounds of dictionary learning that were needed (0 where V is computed at once)."""

    coefficients: Tensor | Packed | None
    mapping: Tensor | None
    dictionary: Tensor
    fingerprint: Tensor
    rounds: int = 0


def frozen_codes(
    layout: KernelLayout, weight: Tensor, layer: nn.Module, recipe: DecompositionConfig, *, hold: bool
) -> FrozenCodes:
    """Decompose a base weight; on the meta device only shapes are made.

    ``hold`` false (linear codes only) computes V from the second moment of the kernels: no alpha is ever made.
    """
    n_atoms, d = recipe.n_atoms(layout), layout.patch_size
    dtype = torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
    if weight.device.type == "meta":
        shapes = {"alpha": (layout.n_rows // layout.input_channels, n_atoms, layout.input_channels), "V": (d, n_atoms)}
        made = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
        dictionary = torch.empty(n_atoms, d, dtype=dtype, device="meta")
        printed = torch.empty(n_atoms, dtype=torch.float64, device="meta")
        return FrozenCodes(made["alpha"] if hold else None, None if hold else made["V"], dictionary, printed)
    if hold:
        found = decompose_weight(layout, weight, recipe)
        alpha = pack(layout, found.coefficients) or by_input(found.coefficients, layout).contiguous()
        return FrozenCodes(alpha, None, found.atoms, fingerprint(found.coefficients), found.iterations)
    rows = kernel_matrix(layout, weight)
    dictionary = _canonical_signs(principal_atoms(rows.to(dtype), n_atoms))
    mapping = linear_mapping(dictionary, recipe)
    return FrozenCodes(None, mapping, dictionary, mapped_fingerprint(layout, weight, mapping))


def linear_mapping(dictionary: Tensor, recipe: DecompositionConfig) -> Tensor:
    """V (d, m) with codes = rows V, for a solver with linear codes: what it makes of the identity."""
    identity = torch.eye(dictionary.shape[1], dtype=torch.float64, device=dictionary.device)
    coded = encode(identity, dictionary.double(), recipe.solver, l1_penalty=recipe.sparsity)
    return coded.codes.to(dictionary.dtype)


def mapped_fingerprint(layout: KernelLayout, weight: Tensor, mapping: Tensor) -> Tensor:
    """The fingerprint of ``alpha = F V`` without alpha: fingerprints are linear."""
    return fingerprint(layout.to_rows(weight.detach())) @ mapping.double().to(weight.device)


def _canonical_signs(atoms: Tensor) -> Tensor:
    """Each atom's largest entry positive, as in every learned dictionary."""
    peaks = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))
    return torch.where(peaks < 0, -atoms, atoms)
