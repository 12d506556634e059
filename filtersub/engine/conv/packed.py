"""Sparse coefficients in packed rows: a 4 x 4 block uses at most 16 of its 144 atoms, the other columns are zero."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels import KernelLayout

MOST_LANES = 64  # entries of a patch that the kernels take at once
_MOST_SHARE = 2  # with half the columns in use the kernels still take less than half of the dense product's time
_CHUNK = 16384  # rows packed at once
_MATRICES = ("linear", "conv1d", "conv2d", "conv3d")


@dataclass(frozen=True)
class Packed:
    """Rows of codes: values (n_rows, s) and the atoms they belong to, indices (n_rows, s), distinct in each row.

    s is the most nonzeros of any row; shorter rows are filled with zeros. Indices are uint8, or int16 from 257 atoms.
    """

    values: Tensor
    indices: Tensor
    n_atoms: int

    def unpacked(self) -> Tensor:
        """The codes (n_rows, n_atoms)."""
        codes = self.values.new_zeros(self.values.shape[0], self.n_atoms)
        return codes.scatter_(1, self.indices.long(), self.values)


def packs(layout: KernelLayout) -> bool:
    """Whether the kernels take a layer: its stored weight is an (outs, ins) matrix, its patches are small."""
    return layout.kind in _MATRICES and not layout.is_spatial and layout.patch_size <= MOST_LANES


def pack(layout: KernelLayout, codes: Tensor) -> Packed | None:
    """Codes (n_rows, m) packed, or None where that would not pay: dense ones, or layers without kernels for them."""
    n_rows, n_atoms = codes.shape
    if not packs(layout) or n_atoms > torch.iinfo(torch.int16).max:
        return None
    longest = max(1, int((codes != 0).sum(1).max()))
    if longest * _MOST_SHARE > n_atoms:
        return None
    values = codes.new_empty(n_rows, longest)
    indices = torch.empty(n_rows, longest, dtype=torch.uint8 if n_atoms <= 256 else torch.int16, device=codes.device)
    for start in range(0, n_rows, _CHUNK):
        part = codes[start : start + _CHUNK]
        used = part.abs().topk(longest, 1).indices.sort(1).values
        values[start : start + _CHUNK] = part.gather(1, used)
        indices[start : start + _CHUNK] = used.to(indices.dtype)
    return Packed(values, indices, n_atoms)
