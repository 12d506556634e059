"""What a sum of weights is made of: its summands, and the plan of a layer's sums, decided once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.conv import spatial
from ..engine.conv.packed import Packed, packs
from ..engine.conv.patches import MOST_MAPPED
from ..kernels import KernelLayout

NARROW = 8  # input channels below which batched products are slower than one tall one


@dataclass(frozen=True)
class SumPlan:
    """How sums of one layout are made, decided once: what depends on the layer alone."""

    layout: KernelLayout
    block: tuple[int, int]
    inputs: int
    plain: bool  # the stored weight is (o, i, *k), a row of the kernel matrix for each channel pair
    batched: bool  # one batched product gives the weight's own memory format
    packed: bool  # the compiled operators take packed codes
    mapped: bool  # and the kernels F as a source
    sliced: bool  # rows are no view of the weight: on a CPU they are made of some output channels at a time
    spatial: bool  # engine.conv.spatial takes the layer: with linear codes no dW is formed


def plan_sum(layout: KernelLayout) -> SumPlan:
    """The plan of a layer's sums."""
    plain = layout.block == (1, 1) and layout.kind in ("conv1d", "conv2d", "conv3d")
    inputs, packed = layout.input_channels, packs(layout)
    batched = plain and layout.kind != "conv1d" and inputs >= NARROW
    mapped = packed and layout.patch_size <= MOST_MAPPED
    sliced = layout.block != (1, 1) and layout.is_spatial and layout.kind in ("conv1d", "conv2d", "conv3d")
    return SumPlan(layout, layout.block, inputs, plain, batched, packed, mapped, sliced, spatial.takes(layout))


@dataclass(frozen=True)
class BaseWeight:
    """The base weight F, in its stored shape, as a source: that of linear codes."""

    weight: Tensor
    dtype: torch.dtype


@dataclass(frozen=True)
class Summand:
    """One summand: source S (o', m, i'), packed or F, and small matrix B, (m, d) or one for each input channel,
    (i', m, d)."""

    plan: SumPlan
    source: Tensor | Packed | BaseWeight
    matrix: Tensor
