"""The weight gradient of depthwise convolutions where torch takes longer than for all the rest: of large kernels, and
of images with fewer lines than the kernel, which the last layers of a network see.

``dW[c, i, j] = sum over images and positions (h, w) of gradient[h, w, c] x[h stride_h + i, w stride_w + j, c]``,
x padded, in channels-last memory, LANES channels at a time. A thread takes a few images at a time, and what each few
give is added up in their order, so results do not depend on the number of threads.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..compile import compiled, make_ready
from ..threads import over_rows
from ..vectors import add_each, convert, load, load_each, store

LANES = 16
_IMAGES = 4  # that a thread takes at a time
_LARGE = 4  # lines of a kernel from which on torch is slow
Sides = Sequence[int]  # a number for each side of an image


def takes(gradient: Tensor, x: Tensor, kernel_size: Sides) -> bool:
    """Whether the weight gradient takes less time this way than torch's: on the CPU, channels last."""
    return (
        x.ndim == 4
        and x.shape[1] % LANES == 0
        and (max(kernel_size) >= _LARGE or x.shape[2] < kernel_size[0])
        and gradient.dtype == x.dtype
        and x.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.is_contiguous(memory_format=torch.channels_last) for t in (gradient, x))
    )


def gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    asked: Sequence[bool],
    *,
    only_torch: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, the weight and the bias of any convolution with zero padding, those that are asked for: torch's,
    but for the weight's where ``weight_gradient`` takes less time. ``only_torch``, a backward pass that is
    differentiated itself and many gradients at once leave that to torch, too.

    The bias's is a sum: asked for it without the weight's, torch computes that too, and drops it.
    """
    to_x, wanted, to_bias = asked
    own = None
    only_torch = only_torch or torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(gradient)
    if wanted and not only_torch and groups == x.shape[1] == len(weight):
        own = weight_gradient(gradient, x, weight.shape[2:], stride, padding, dilation)
    by_torch = wanted and own is None
    for_x, for_weight, for_bias = None, own, None
    if to_x or by_torch:
        settings = (stride, padding, dilation, False, [0] * len(stride), groups)
        sizes, needs = [len(weight)] if to_bias else None, [to_x, by_torch, to_bias and by_torch]
        for_x, torchs, for_bias = torch.ops.aten.convolution_backward(gradient, x, weight, sizes, *settings, needs)
        for_weight = torchs if own is None else own
    if to_bias and not by_torch:
        for_bias = gradient.sum((0, *range(2, gradient.ndim)))
    return for_x, for_weight, for_bias


def weight_gradient(
    gradient: Tensor, x: Tensor, kernel_size: Sides, stride: Sides, padding: Sides, dilation: Sides
) -> Tensor | None:
    """dW (c, 1, kh, kw) of a convolution of a channel a group with zero padding, for gradient (n, c, h', w') and
    x (n, c, h, w); None where torch takes less time."""
    if not takes(gradient, x, kernel_size):
        return None
    at, seen = (each.detach().permute(0, 2, 3, 1).numpy() for each in (gradient, x))
    sums = np.zeros((max(1, -(-len(at) // _IMAGES)), *kernel_size, at.shape[3]), at.dtype)
    taps = (0,) * kernel_size[1]

    def gather(number: int, at: np.ndarray, seen: np.ndarray) -> None:
        _weight_gradients(at, seen, sums[number], tuple(padding), tuple(stride), tuple(dilation), taps)

    make_ready(("depthwise", at.dtype, len(taps)), lambda: gather(0, at[:0], seen[:0]))
    over_rows(gather, _IMAGES, (at, seen), 0, widen=False)
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None]


@compiled
def _weight_gradients(gradient, x, into, padding, stride, dilation, taps):
    """Adds to ``into`` (kh, kw, c) what these images give; gradient (n, h', w', c), x (n, h, w, c)."""
    n_images, height, width, channels = gradient.shape
    (pad_h, pad_w), (stride_h, stride_w), (dilation_h, dilation_w) = padding, stride, dilation
    line, lines = (x.shape[2] + 2 * pad_w) * channels, into.shape[0]
    padded = np.zeros((x.shape[1] + 2 * pad_h) * line, x.dtype)
    inner = x.shape[2] * channels
    for n in range(n_images):
        for h in range(x.shape[1]):
            convert(x, (n * x.shape[1] + h) * inner, padded, (h + pad_h) * line + pad_w * channels, inner)
        for c in range(0, channels, LANES):
            for i in range(lines):
                first = i * len(taps) * channels + c
                sums = load_each(into, first, channels, taps, LANES)
                for h in range(height):
                    start = (n * height + h) * width * channels + c
                    seen = (h * stride_h + i * dilation_h) * line + c
                    for w in range(width):
                        place = seen + w * stride_w * channels
                        taken = load_each(padded, place, dilation_w * channels, taps, LANES)
                        sums = add_each(load(gradient, start + w * channels, LANES), taken, sums)
                for t in range(len(taps)):
                    store(into, first + t * channels, sums[t])
