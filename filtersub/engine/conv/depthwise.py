"""The weight gradient of depthwise convolutions with large kernels, where torch takes longer than for all the rest.

``dW[c, i, j] = sum over images and positions (h, w) of gradient[h, w, c] x[h stride_h + i, w stride_w + j, c]``,
x padded, in channels-last memory, LANES channels at a time. Images are cut between threads and added up in their order,
so results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from ..compile import compiled, make_ready
from ..threads import over_rows
from ..vectors import I64, convert, for_range, fused, load_vector, store_vector

LANES = 16
_IMAGES = 4  # that a thread takes at a time
_LARGE = 4  # lines of a kernel from which on torch is slow


def takes(layer: nn.Module, gradient: Tensor, x: Tensor) -> bool:
    """Whether a plain convolution (zero padding) of a batch takes less time this way: a channel a group, on the CPU."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.in_channels % LANES == 0
        and max(layer.kernel_size) >= _LARGE
        and gradient.dtype == x.dtype
        and x.dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.is_contiguous(memory_format=torch.channels_last) for t in (gradient, x))
    )


def weight_gradient(layer: nn.Conv2d, gradient: Tensor, x: Tensor) -> Tensor | None:
    """dW (c, 1, kh, kw) for gradient (n, c, h', w') and x (n, c, h, w); None where torch takes less time."""
    if not takes(layer, gradient, x):
        return None
    at, seen = (each.detach().permute(0, 2, 3, 1).numpy() for each in (gradient, x))
    sums = np.zeros((len(at), *layer.kernel_size, at.shape[3]), at.dtype)
    taps = (0,) * layer.kernel_size[1]

    def gather(_: int, at: np.ndarray, seen: np.ndarray, sums: np.ndarray) -> None:
        _weight_gradients(at, seen, sums, layer.padding, layer.stride, layer.dilation, taps)

    make_ready(("depthwise", at.dtype, len(taps)), lambda: gather(0, at[:0], seen[:0], sums[:0]))
    over_rows(gather, _IMAGES, (at, seen, sums), 1, widen=False)
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None]


@intrinsic
def gather_taps(typingctx, gradient, g_first, g_step, x, x_first, x_step, count, into, first, step, taps, tap_step):
    """``into[first + t step :] += sum over w < count of gradient[g_first + w g_step :] x[x_first + w x_step + t
    tap_step :]`` for every tap t of one line of the kernel; ``taps`` is a tuple of which only the length counts."""

    def codegen(context, builder, signature, args):
        number = range(signature.args[10].count)
        places = [builder.add(args[8], builder.mul(args[9], I64(t))) for t in number]
        initial = [load_vector(context, builder, signature, args, 7, place, LANES) for place in places]

        def add(w, sums):
            place = builder.add(args[1], builder.mul(w, args[2]))
            weight = load_vector(context, builder, signature, args, 0, place, LANES)
            start = builder.add(args[4], builder.mul(w, args[5]))
            seen = [builder.add(start, builder.mul(args[11], I64(t))) for t in number]
            seen = [load_vector(context, builder, signature, args, 3, place, LANES) for place in seen]
            return [fused(builder, weight, value, total) for value, total in zip(seen, sums, strict=True)]

        for place, total in zip(places, for_range(builder, args[6], initial, add), strict=True):
            store_vector(context, builder, signature, args, 7, place, total)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (gradient, integer, integer, x, *[integer] * 3, into, integer, integer, taps, integer)
    return types.none(*kinds), codegen


@compiled
def _weight_gradients(gradient, x, into, padding, stride, dilation, taps):
    """Adds to ``into`` (n, kh, kw, c), for every image by itself; gradient (n, h', w', c), x (n, h, w, c)."""
    n_images, height, width, channels = gradient.shape
    (pad_h, pad_w), (stride_h, stride_w), (dilation_h, dilation_w) = padding, stride, dilation
    line, lines = (x.shape[2] + 2 * pad_w) * channels, into.shape[1]
    padded = np.zeros((x.shape[1] + 2 * pad_h) * line, x.dtype)
    flat, flat_x, flat_into, inner = gradient.reshape(-1), x.reshape(-1), into.reshape(-1), x.shape[2] * channels
    for n in range(n_images):
        for h in range(x.shape[1]):
            convert(flat_x, (n * x.shape[1] + h) * inner, padded, (h + pad_h) * line + pad_w * channels, inner)
        for c in range(0, channels, LANES):
            for i in range(lines):
                first = (n * lines + i) * len(taps) * channels + c
                for h in range(height):
                    start = (n * height + h) * width * channels + c
                    seen = (h * stride_h + i * dilation_h) * line + c
                    gather_taps(
                        flat, start, channels, padded, seen, stride_w * channels, width,
                        flat_into, first, channels, taps, dilation_w * channels,
                    )  # fmt: skip
