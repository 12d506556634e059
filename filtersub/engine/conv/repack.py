"""Blocked kernel matrix <-> stored weight, quickly, for 1x1 kernels and linear layers.

``(o' p) (i' q) <-> (o' i') (p q)`` only swaps p and i' and moves q neighbours together. Where those fill 8 or 16 bytes
they are copied as one element (a complex number, to torch), four times as fast as one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...kernels import KernelLayout

_ELEMENT = {8: torch.complex64, 16: torch.complex128}


def repacks(layout: KernelLayout) -> bool:
    """Whether a layer's blocks can be copied so: those of a stored (outs, ins) matrix."""
    return layout.block != (1, 1) and not layout.is_spatial and layout.kind in ("linear", "conv1d", "conv2d", "conv3d")


def to_rows(layout: KernelLayout, weight: Tensor) -> Tensor:
    """``layout.to_rows`` of a layer that ``repacks``, differentiable, quick where its neighbours fill 8 or 16 bytes."""
    (p, q), inputs = layout.block, layout.input_channels
    if q * weight.element_size() not in _ELEMENT:
        return layout.to_rows(weight)
    return _Swap.apply(weight.flatten(), p, inputs, q).view(layout.n_rows, layout.patch_size)


def to_weight(layout: KernelLayout, rows: Tensor) -> Tensor:
    """``layout.to_weight`` likewise."""
    (p, q), inputs = layout.block, layout.input_channels
    if q * rows.element_size() not in _ELEMENT:
        return layout.to_weight(rows)
    return _Swap.apply(rows.flatten(), inputs, p, q).view(layout.shape)


class _Swap(torch.autograd.Function):
    """A flat (outer, first, second, q) as a flat (outer, second, first, q)."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, first: int, second: int, q: int) -> Tensor:
        ctx.sides = first, second, q
        flat = flat.contiguous()
        size = q * flat.element_size()
        if flat.storage_offset() * flat.element_size() % size:
            return flat.view(-1, first, second, q).transpose(1, 2).flatten()
        swapped = flat.view(_ELEMENT[size]).view(-1, first, second).transpose(1, 2)
        return swapped.contiguous().view(-1).view(flat.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        first, second, q = ctx.sides
        return _Swap.apply(gradient, second, first, q), None, None, None
