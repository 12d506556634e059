"""How one weight is laid out as a kernel matrix. Counts need no more than that, so importing this imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from .errors import FiltersubError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class KernelLayout:
    """How one stored weight is laid out as a kernel matrix.

    Attributes
    ----------
    name : of the layer in its model
    kind : ``conv1d`` to ``conv3d``, ``conv_transpose1d`` to ``conv_transpose3d``, ``linear`` or ``conv1d_transformers``
    shape : of the stored weight
    groups : of the convolution; they matter for transposed kernels alone, stored as (c_in, c_out / groups, *k)
    block : (p, q), output and input channels joined in one patch, after the fall-back to 1 where a side does not divide
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    groups: int = 1
    block: tuple[int, int] = (1, 1)

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.shape[2:]

    @property
    def is_spatial(self) -> bool:
        """Whether the kernel spans more than one position."""
        return prod(self.kernel_size) > 1

    @property
    def channels(self) -> tuple[int, int]:
        """(output channels, input channels of one group)."""
        first, second = self.shape[:2]
        if self.kind.startswith("conv_transpose"):
            return second * self.groups, first // self.groups
        if self.kind == "conv1d_transformers":
            return second, first
        return first, second

    @property
    def patch_size(self) -> int:
        """d, the length of a row and of an atom: p * q * prod(kernel_size)."""
        return prod(self.block) * prod(self.kernel_size)

    @property
    def n_rows(self) -> int:
        return prod(self.shape) // self.patch_size

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(p, *kernel_size, q): how an atom is folded; layers of one patch shape can share a dictionary."""
        return (self.block[0], *self.kernel_size, self.block[1])

    @property
    def input_channels(self) -> int:
        """c' of the atoms of an input channel: input channels of a group over q. Row (o, i) belongs to input i."""
        return self.channels[1] // self.block[1]

    @property
    def words(self) -> str:
        """What it is, for messages."""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        blocks = f", blocks of {self.block}" if self.block != (1, 1) else ""
        return f"{self.kind} of shape {self.shape}{groups}{blocks}"

    def row_words(self, row: int) -> str:
        """Which channels a row of the kernel matrix is of, in words; input channels are counted within the group.

        >>> KernelLayout("a", "conv2d", (4, 6, 3, 3), block=(2, 1)).row_words(7)
        'output channels 2 to 3, input channel 1'
        """
        (p, q), (out, into) = self.block, divmod(row, self.input_channels)
        return f"{_channels('output', out * p, p)}, {_channels('input', into * q, q)}"

    def to_rows(self, weight: Tensor) -> Tensor:
        """The weight (stored shape) as its kernel matrix of shape (n_rows, d); a view where the layout allows one."""
        (outs, ins), (p, q) = self.channels, self.block
        canonical = self._canonical(weight)
        if (p, q) == (1, 1):
            return canonical.reshape(outs * ins, -1)
        patches = canonical.reshape(outs // p, p, ins // q, q, -1)
        return patches.permute(0, 2, 1, 4, 3).reshape(self.n_rows, self.patch_size)

    def to_weight(self, rows: Tensor) -> Tensor:
        """The inverse of to_rows: (n_rows, d) to the stored shape."""
        (outs, ins), (p, q) = self.channels, self.block
        if (p, q) != (1, 1):
            patches = rows.reshape(outs // p, ins // q, p, prod(self.kernel_size), q)
            rows = patches.permute(0, 2, 1, 4, 3)
        return self._stored(rows.reshape(outs, ins, *self.kernel_size))

    def as_lines(self) -> KernelLayout:
        """The layout of the same weight (o, i, *k) as a matrix (o, i k), where a block is p runs of q k entries."""
        (outs, ins, *sides), (p, q) = self.shape, self.block
        return replace(self, kind="linear", shape=(outs, ins * prod(sides)), block=(p, q * prod(sides)))

    def in_stored_order(self, matrix: Tensor, *, rows: bool, back: bool = False) -> Tensor:
        """A matrix whose columns, and rows where asked, are entries of a patch (p, k, q), in the order (p, q, k) of the
        stored weight; ``back`` is the inverse."""
        (p, q), k = self.block, prod(self.kernel_size)
        sides = (p, q, k) if back else (p, k, q)
        matrix = matrix.unflatten(1, sides).transpose(2, 3).flatten(1)
        return matrix.unflatten(0, sides).transpose(1, 2).flatten(0, 2) if rows else matrix

    def _canonical(self, weight: Tensor) -> Tensor:
        """Stored weight -> (c_out, c_in / groups, *k)."""
        if tuple(weight.shape) != self.shape:
            raise FiltersubError(
                f"layer {self.name!r} has shape {self.shape}, but a weight of {tuple(weight.shape)} came"
            )
        if self.kind == "conv1d_transformers":
            return weight.T
        if self.kind.startswith("conv_transpose"):
            outs, ins = self.channels
            grouped = weight.reshape(self.groups, ins, outs // self.groups, *self.kernel_size)
            return grouped.transpose(1, 2).reshape(outs, ins, *self.kernel_size)
        return weight

    def _stored(self, canonical: Tensor) -> Tensor:
        if self.kind == "conv1d_transformers":
            return canonical.T
        if self.kind.startswith("conv_transpose"):
            outs, ins = self.channels
            grouped = canonical.reshape(self.groups, outs // self.groups, ins, *self.kernel_size)
            return grouped.transpose(1, 2).reshape(self.shape)
        return canonical


def _channels(side: str, first: int, count: int) -> str:
    return f"{side} channel {first}" if count == 1 else f"{side} channels {first} to {first + count - 1}"


def check_block(block: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """A block setting as (k_c', k_c), input side first as in the paper; None stays None.

    Raises FiltersubError unless each side is a positive integer.

    >>> check_block(4)
    (4, 4)
    """
    if block is None:
        return None
    sides = tuple(block) if isinstance(block, (tuple, list)) else (block, block)
    if len(sides) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides):
        raise FiltersubError(f"block must be a positive integer or a pair (k_c', k_c) of them, got {block!r}")
    return sides


def fitted_block(channels: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """(p, q) for (output, input) channels and (k_c', k_c): a side that does not divide its channel count becomes 1.

    >>> fitted_block((64, 3), (4, 4))
    (4, 1)
    """
    (outs, ins), (k_in, k_out) = channels, sides
    return (k_out if outs % k_out == 0 else 1, k_in if ins % k_in == 0 else 1)


def blocked_layout(
    layout: KernelLayout, block: int | tuple[int, int] | None = None, block_spatial: bool = False
) -> KernelLayout | None:
    """A layout without blocks as kernels.layout_of gives it for these settings; None where the layer takes no part."""
    sides = check_block(block)
    if not layout.is_spatial and sides is None:
        return None
    if sides is None or (layout.is_spatial and not block_spatial):
        return layout
    return replace(layout, block=fitted_block(layout.channels, sides))


def check_block_used(
    layouts: Iterable[KernelLayout], block: int | tuple[int, int] | None, everywhere: bool = False
) -> None:
    """FiltersubError where a block joins no channels of these layers, so that it would fall back to 1 in all of them.

    A block concerns 1x1 kernels and linear layers, and spatial kernels too where ``everywhere`` is set; where there are
    none of these, it could be one for the layers there are. Of two unequal sides each must divide a channel count.
    """
    sides, layouts = check_block(block), list(layouts)
    if sides in (None, (1, 1)) or not layouts:
        return
    concerned = [layout for layout in layouts if everywhere or not layout.is_spatial] or layouts
    fitted = [fitted_block(layout.channels, sides) for layout in concerned]
    used = [any(side > 1 for side in one) for one in zip(*fitted, strict=True)]  # output side, input side
    needed = [side > 1 for side in sides[::-1]]
    if used == needed or (sides[0] == sides[1] and any(used)):
        return
    which = "" if not any(used) else f": its side of {'input' if used[0] else 'output'} channels"
    channels = [n for layout in concerned for n in layout.channels]
    fitting = [str(k) for k in (2, 3, 4, 5, 6, 8) if any(n % k == 0 for n in channels)]
    hint = f"; sides that do: {', '.join(fitting)}" if fitting else ""
    raise FiltersubError(f"block {block} divides the channels of no layer that takes part{which}{hint}")


def coefficient_layout(layout: KernelLayout, n_atoms: int, block: int | tuple[int, int]) -> KernelLayout:
    """The layout of a layer's coefficients alpha (c, c', m), blocked in turn: ``(o p) (i q) m -> (o i) (p m q)``.

    alpha is the 1x1 convolution of the two-step form, and so can be decomposed itself, ``alpha = alpha_c x D_c``
    (Chen, Miao and Qiu, arXiv:2403.00269, section 4.5). Its m atoms take the place of a kernel's positions. ``layout``
    is that of the kernel, without blocks; sides fall back to 1 as in layout_of.
    """
    sides = check_block(block)
    assert sides is not None
    return KernelLayout(layout.name, "conv1d", (*layout.channels, n_atoms), 1, fitted_block(layout.channels, sides))


def kernel_matrix(layout: KernelLayout, layer: nn.Module | Tensor) -> Tensor:
    """The detached kernel matrix (n_rows, d) of a layer; FiltersubError naming the layer where it is not finite."""
    import torch
    from torch import Tensor

    from .computed_weights import current_weight

    weight = layer if isinstance(layer, Tensor) else current_weight(layer)
    rows = layout.to_rows(weight.detach())
    # a finite sum has finite terms, and costs a fraction of looking at each; sums of finite terms can overflow
    if rows.device.type != "meta" and not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
        bad = int((~torch.isfinite(rows)).sum())
        raise FiltersubError(f"layer {layout.name!r} has {bad} weights that are NaN or infinite; its file is damaged")
    return rows


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression of layer names; FiltersubError where it is none."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise FiltersubError(f"layers {pattern!r} is not a regular expression: {error}") from None
