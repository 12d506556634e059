"""The weight gradient of depthwise convolutions with large kernels, where torch takes longer than for all the rest.

Images are cut between threads and added up in their order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..sparse_coding._threads import make_ready, over_rows
from ._depthwise_kernel import LANES, weight_gradients
from .products import in_channels_last

_IMAGES = 4  # that a thread takes at a time
_LARGE = 4  # lines of a kernel from which on torch is slow


def takes(layer: nn.Module, gradient: Tensor, x: Tensor) -> bool:
    """Whether a plain convolution (zero padding) of a batch takes less time this way: a channel a group, on the CPU."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.in_channels % LANES == 0
        and max(layer.kernel_size) >= _LARGE
        and in_channels_last(gradient, x)
    )


def weight_gradient(layer: nn.Conv2d, gradient: Tensor, x: Tensor) -> Tensor:
    """dW (c, 1, kh, kw) for gradient (n, c, h', w') and x (n, c, h, w), both in channels-last memory."""
    at, seen = (each.detach().permute(0, 2, 3, 1).numpy() for each in (gradient, x))
    sums = np.zeros((len(at), *layer.kernel_size, at.shape[3]), at.dtype)
    taps = (0,) * layer.kernel_size[1]

    def gather(_: int, at: np.ndarray, seen: np.ndarray, sums: np.ndarray) -> None:
        weight_gradients(at, seen, sums, layer.padding, layer.stride, layer.dilation, taps)

    make_ready(("depthwise", at.dtype, len(taps)), lambda: gather(0, at[:0], seen[:0], sums[:0]))
    over_rows(gather, _IMAGES, (at, seen, sums), 1, widen=False)
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None]
