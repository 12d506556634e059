"""Closed formulas of the baselines: what each trains in one layer, equal to what peft injects.

A rule takes a layer's layout, the layer (None: one with a weight and a bias alone) and the options, and gives the
number of trained parameters; 0 where the method has no adapter for that kind of layer. For a convolution c_in -> c_out
of g groups and kernel k_h x k_w, with rank r:

    lora            r c_in k_h k_w + c_out r / g             peft: A is an ungrouped convolution, B a grouped 1x1 one,
                                                             both of the layer's class, with the gains that it has
    lora-ungrouped  r c_in k_h k_w + c_out r                 peft until it knew groups: B an ungrouped 1x1 convolution
    lora-loralib    r k c_in k + (c_out / g) k r k           microsoft/LoRA: A (r k, c_in k), B (c_out / g k, r k)
    lora-matrix     r (c_in / g) k_h k_w + c_out r           the kernel as a matrix (c_out, c_in / g k_h k_w)
    dora            lora + c_out                             a magnitude for each output channel
    loha            2 r (c_out + (c_in / g) k_h k_w)
    lokr            a b + r (b' + a' k_h k_w)                Kronecker factors; the second whole where r is large
    oft             (n / s) s (s - 1) / 2                    n = c_in k^2, blocks of s
    boft            n s + c_out                              n = c_in k^2, no groups
    adalora         s (c_in k_h k_w + c_out + 1)             s = 3 r / 2, before ranks are taken away
    tucker-lora     r (c_in / g + c_out) + r^2 k_h k_w       without the core where k_h k_w = 1
    tucker-loha     twice tucker-lora
    tucker-lokr     a b + r (a' + b') + r^2 k_h k_w          the factors of lokr, with a core
    hra             r n                                      n = c_in k^2, no groups
    hira            r (c_in k_h k_w + c_out)                 no groups
    ia3             c_out
    conv-adapter    c_in k_h k_w + h + (h + 2) c_out          h = c_in / reduction channels between, spatial only
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from ..errors import FiltersubError
from ..kernel_layout import KernelLayout
from ..setting_fields import BaselineFields, described
from ..settings import MOST, check_types, check_whole

if TYPE_CHECKING:
    from torch import Tensor, nn


@described
@dataclass(frozen=True)
class BaselineOptions(BaselineFields):
    """Sizes of the baselines; block sizes of oft and boft are peft's defaults."""

    def __post_init__(self) -> None:
        check_types(self)
        named = {
            "rank": self.rank,
            "rank of depthwise convolutions": self.rank if self.depthwise_rank is None else self.depthwise_rank,
            "block size of oft": self.oft_block,
            "block size of boft": self.boft_block,
            "reduction of conv-adapter": self.reduction,
        }
        for what, value in named.items():
            if value < 1:
                raise FiltersubError(f"the {what} must be a positive integer, got {value}")
            check_whole(f"the {what}", value, 1, MOST)

    def rank_of(self, layout: KernelLayout) -> int:
        """The rank of lora-loralib in a layer."""
        depthwise = layout.groups > 1 and layout.channels[1] == 1
        return self.depthwise_rank if depthwise and self.depthwise_rank is not None else self.rank


_PLAIN = ("linear", "conv1d", "conv2d", "conv3d")
Rule: TypeAlias = "Callable[[KernelLayout, nn.Module | Tensor | None, BaselineOptions], int]"


def _lora(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    rank = options.rank
    if rank % layout.groups or _is_transposed(layout):
        return 0
    outs, ins = layout.channels
    factors = rank * ins * layout.groups * prod(layout.kernel_size) + outs * rank // layout.groups
    return factors + _further(layer, outs) * (rank + outs)


def _further(layer: nn.Module | Tensor | None, outs: int) -> int:
    """Parameters an output channel beside weight and bias (the gain of timm's ScaledStdConv2d).

    peft makes the factors of a convolution from the layer's own class, so that both have them too, trained.
    """
    if layer is None:
        return 0
    from torch.nn.modules.conv import _ConvNd

    if not isinstance(layer, _ConvNd):
        return 0
    own = dict(layer.named_parameters(recurse=False))
    return sum(p.numel() for name, p in own.items() if name not in ("weight", "bias")) // outs


def _lora_ungrouped(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if _is_transposed(layout):
        return 0
    outs, ins = layout.channels
    return options.rank * (ins * layout.groups * prod(layout.kernel_size) + outs)


def _lora_matrix(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    outs, ins = layout.channels
    return options.rank * (ins * prod(layout.kernel_size) + outs)


def _lora_loralib(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    """loralib knows linear layers and square kernels; those of one and three dimensions it cannot run but for k = 1."""
    if layout.kind not in _PLAIN:
        return 0
    k = layout.kernel_size[0] if layout.kernel_size else 1
    if prod(layout.kernel_size) != (k * k if layout.kind == "conv2d" else 1):
        return 0
    (outs, ins), rank = layout.channels, options.rank_of(layout)
    return rank * k * ins * layout.groups * k + outs // layout.groups * k * rank * k


def _dora(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    low_rank = _lora(layout, layer, options)
    return low_rank + layout.channels[0] if low_rank else 0


def _loha(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in ("linear", "conv1d", "conv2d"):
        return 0
    outs, ins = layout.channels
    return 2 * options.rank * (outs + ins * prod(layout.kernel_size))


def _lokr(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in ("linear", "conv1d", "conv2d"):
        return 0
    outs, ins = layout.channels
    (out_1, out_2), (in_1, in_2) = _factors(outs), _factors(ins)
    area, rank = prod(layout.kernel_size), options.rank
    second = out_2 * in_2 * area if rank >= max(out_2, in_2) / 2 else rank * (out_2 + in_2 * area)
    return out_1 * in_1 + second


def _factors(n: int) -> tuple[int, int]:
    """The two factors of n that are nearest to each other, the smaller first: peft's choice of Kronecker sizes."""
    small = next(k for k in range(int(n**0.5), 0, -1) if n % k == 0)
    return small, n // small


def _adalora(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in ("linear", "conv1d_transformers", "conv2d"):
        return 0
    outs, ins = layout.channels
    return adalora_start(options.rank) * (ins * layout.groups * prod(layout.kernel_size) + outs + 1)


def adalora_start(rank: int) -> int:
    """The rank that AdaLoRA starts from: one and a half of the one it ends with on average, as its authors take it.

    >>> adalora_start(8), adalora_start(1)
    (12, 2)
    """
    return (3 * rank + 1) // 2


def _tucker_lora(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in _PLAIN:
        return 0
    return options.rank * sum(layout.channels) + _core(layout, options)


def _tucker_loha(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    return 2 * _tucker_lora(layout, layer, options)


def _tucker_lokr(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in _PLAIN:
        return 0
    outs, ins = layout.channels
    (out_1, out_2), (in_1, in_2) = _factors(outs), _factors(ins)
    if options.rank >= max(out_2, in_2) / 2:
        return out_1 * in_1 + out_2 * in_2 * prod(layout.kernel_size)
    return out_1 * in_1 + options.rank * (out_2 + in_2) + _core(layout, options)


def _core(layout: KernelLayout, options: BaselineOptions) -> int:
    return options.rank**2 * prod(layout.kernel_size) if layout.is_spatial else 0


def _oft(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    dilated = max(getattr(layer, "dilation", None) or (1,)) > 1
    if layout.kind not in ("linear", "conv2d") or dilated:
        return 0
    size = _rotated(layout)
    divisors = (k for k in range(1, size + 1) if size % k == 0)
    block = min(divisors, key=lambda k: (abs(k - options.oft_block), k))  # as peft takes it, the smaller of two
    return size // block * (block * (block - 1) // 2)


def _boft(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    size = _rotated(layout)
    if layout.kind not in ("linear", "conv2d") or layout.groups > 1 or size % options.boft_block:
        return 0
    return size * options.boft_block + layout.channels[0]


def _hra(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.kind not in ("linear", "conv2d") or layout.groups > 1:
        return 0
    return options.rank * _rotated(layout)


def _hira(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if layout.groups > 1 or _is_transposed(layout):
        return 0
    outs, ins = layout.channels
    return options.rank * (ins * prod(layout.kernel_size) + outs)


def _ia3(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    return layout.channels[0] if layout.kind in ("linear", "conv1d_transformers", "conv2d", "conv3d") else 0


def _conv_adapter(layout: KernelLayout, layer: nn.Module | Tensor | None, options: BaselineOptions) -> int:
    if not layout.is_spatial or _is_transposed(layout):
        return 0
    outs, ins = layout.channels[0], layout.channels[1] * layout.groups
    width = conv_adapter_width(ins, options.reduction)
    return ins * prod(layout.kernel_size) + width + (width + 2) * outs


def conv_adapter_width(in_channels: int, reduction: int) -> int:
    """Channels between the two kernels of Conv-Adapter, in_channels over their largest divisor up to ``reduction``.

    >>> conv_adapter_width(64, 4), conv_adapter_width(3, 4)
    (16, 1)
    """
    return in_channels // max(k for k in range(1, min(reduction, in_channels) + 1) if in_channels % k == 0)


def _rotated(layout: KernelLayout) -> int:
    """Side of the rotation: all input channels times the square of the first kernel side, as peft takes it."""
    side = layout.kernel_size[0] if layout.kernel_size else 1
    return layout.channels[1] * layout.groups * side * side


def _is_transposed(layout: KernelLayout) -> bool:
    return layout.kind.startswith("conv_transpose")


#: methods of features rather than kernels: biases, normalisation layers, a scale and a shift after each layer
FEATURE_METHODS = ("bitfit", "norm", "ssf")
#: name -> rule of one layer
LAYER_RULES: dict[str, Rule] = {
    "lora": _lora,
    "lora-ungrouped": _lora_ungrouped,
    "lora-loralib": _lora_loralib,
    "lora-matrix": _lora_matrix,
    "dora": _dora,
    "loha": _loha,
    "lokr": _lokr,
    "oft": _oft,
    "boft": _boft,
    "adalora": _adalora,
    "tucker-lora": _tucker_lora,
    "tucker-loha": _tucker_loha,
    "tucker-lokr": _tucker_lokr,
    "hra": _hra,
    "hira": _hira,
    "ia3": _ia3,
    "conv-adapter": _conv_adapter,
}

#: name -> what it trains beside the head
METHODS: dict[str, str] = {
    "filter-subspace": "filter atoms of each layer that takes part, by the recipe",
    "coefficients": "filter atoms and alpha itself, the control for the claim that alpha should stay frozen",
    "lora": "low-rank factors, as peft injects them",
    "lora-ungrouped": "low-rank factors, the second ungrouped",
    "lora-loralib": "low-rank factors of the (c_out k, c_in k) matrix, as loralib has them",
    "lora-matrix": "low-rank factors of the (c_out, c_in k k) matrix",
    "dora": "low-rank factors and a magnitude an output channel (peft)",
    "loha": "two Hadamard-multiplied low-rank products (peft)",
    "lokr": "Kronecker factors (peft)",
    "oft": "block-diagonal rotations (peft)",
    "boft": "butterfly rotations (peft)",
    "adalora": "low-rank factors and singular values, before ranks are taken away (peft)",
    "tucker-lora": "low-rank factors with a core for the kernel's sides (LyCORIS)",
    "tucker-loha": "Hadamard-multiplied low-rank factors with cores (LyCORIS)",
    "tucker-lokr": "Kronecker factors with a core (LyCORIS)",
    "hra": "Householder reflections of each kernel's rows (peft)",
    "hira": "low-rank factors, multiplied with the weight entry by entry (peft)",
    "ia3": "a factor of each output channel (peft)",
    "conv-adapter": "bottlenecks beside the spatial convolutions",
    "bitfit": "every bias",
    "norm": "weights and biases of the normalisation layers",
    "ssf": "a scale and a shift after every convolution, linear and normalisation layer",
    "linear": "nothing but the head",
    "full": "every weight",
}
