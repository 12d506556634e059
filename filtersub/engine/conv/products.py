"""The gradients of a convolution as matrix products, where it is one, or where weights outnumber positions by far.

A CPU's convolutions lay the weight out anew for each of their calls. In the last stages of a network, where millions of
weights see a hundred positions, that takes longer than the products themselves, which need no other layout than
channels-last memory has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# Pairs of channels for each position from which on products take less time: early where windows do not overlap, which
# are cut out and put together in one pass, else only where weights are very many.
_EARLY, _LATE = 64, 450


def in_channels_last(*tensors: Tensor) -> bool:
    """Whether all lie on the CPU in channels-last memory, as float32 or all as float64."""
    first = tensors[0]
    return (
        first.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == first.dtype for t in tensors)
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors)
    )


def is_faster(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor) -> bool:
    """Whether a plain convolution (zero padding) of a batch on the CPU takes less time this way."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and in_channels_last(gradient, x, weight)
        and weight[..., 0, 0].numel() >= _least(layer) * gradient[:, 0].numel()
    )


def _least(layer: nn.Conv2d) -> int:
    return _EARLY if layer.kernel_size == layer.stride != (1, 1) else _LATE


def gradients(layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    """Gradients of input, weight and bias, those that are needed, each as a convolution's backward pass gives it.

    gradient (n, o, h', w'), x (n, i, h, w), weight (o, i, kh, kw), all in channels-last memory.
    """
    at = gradient.permute(0, 2, 3, 1).flatten(0, 2)  # (positions, o)
    to_x = to_weight = None
    if needs[0]:
        flat = weight.permute(0, 2, 3, 1).flatten(1)  # (o, kh kw i)
        to_x = _added_up(layer, (at @ flat).view(*_places(gradient), *layer.kernel_size, -1), x.shape)
    if needs[1]:
        rows = (at.T @ _windows(layer, x, _places(gradient))).view(-1, *layer.kernel_size, x.shape[1])
        to_weight = rows.permute(0, 3, 1, 2)
    return to_x, to_weight, at.sum(0) if needs[2] else None


def _places(gradient: Tensor) -> tuple[int, int, int]:
    n, _, height, width = gradient.shape
    return n, height, width


def _is_product(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)


def _windows(layer: nn.Conv2d, x: Tensor, places: tuple[int, int, int]) -> Tensor:
    """What each position sees, (positions, kh kw i)."""
    x = x.permute(0, 2, 3, 1)
    if _is_product(layer):
        return x.flatten(0, 2)
    (above, left), (down, across), (dilated_down, dilated_across) = layer.padding, layer.stride, layer.dilation
    x = pad(x, (0, 0, left, left, above, above)) if above or left else x
    image, line, pixel, channel = x.stride()
    strides = (image, line * down, pixel * across, line * dilated_down, pixel * dilated_across, channel)
    return x.as_strided((*places, *layer.kernel_size, x.shape[3]), strides).reshape(len(x) * places[1] * places[2], -1)


def _added_up(layer: nn.Conv2d, seen: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of _windows: what positions saw, (n, h', w', kh, kw, i), added up where it lay, (n, i, h, w)."""
    n, channels, height, width = shape
    if _is_product(layer):
        return seen.view(n, height, width, channels).permute(0, 3, 1, 2)
    (above, left), (down, across), (dilated_down, dilated_across) = layer.padding, layer.stride, layer.dilation
    total = seen.new_zeros(n, height + 2 * above, width + 2 * left, channels)
    rows, columns = (seen.shape[1] - 1) * down + 1, (seen.shape[2] - 1) * across + 1
    for i in range(layer.kernel_size[0]):
        for j in range(layer.kernel_size[1]):
            top, side = i * dilated_down, j * dilated_across
            total[:, top : top + rows : down, side : side + columns : across] += seen[:, :, :, i, j]
    inner = total[:, above : above + height, left : left + width]
    return inner.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
