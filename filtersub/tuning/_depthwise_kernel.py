"""The weight gradient of a depthwise convolution in channels-last memory, ``LANES`` channels at a time.

``dW[c, i, j] = sum over images and positions (h, w) of gradient[h, w, c] x[h down + i, w across + j, c]``, x padded.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..sparse_coding._lasso_jit import compiled
from ..sparse_coding._lasso_simd import _I64, _for_range, _fused, _load, _store
from ..sparse_coding._moves_simd import convert

LANES = 16


@intrinsic
def gather_taps(typingctx, gradient, g_first, g_step, x, x_first, x_step, count, into, first, step, taps, tap_step):
    """``into[first + t step :] += sum over w < count of gradient[g_first + w g_step :] x[x_first + w x_step + t
    tap_step :]`` for every tap t of one line of the kernel; ``taps`` is a tuple of which only the length counts."""

    def codegen(context, builder, signature, args):
        number = range(signature.args[10].count)
        places = [builder.add(args[8], builder.mul(args[9], _I64(t))) for t in number]
        initial = [_load(context, builder, signature, args, 7, place, LANES) for place in places]

        def add(w, sums):
            place = builder.add(args[1], builder.mul(w, args[2]))
            weight = _load(context, builder, signature, args, 0, place, LANES)
            start = builder.add(args[4], builder.mul(w, args[5]))
            seen = [builder.add(start, builder.mul(args[11], _I64(t))) for t in number]
            seen = [_load(context, builder, signature, args, 3, place, LANES) for place in seen]
            return [_fused(builder, weight, value, total) for value, total in zip(seen, sums, strict=True)]

        for place, total in zip(places, _for_range(builder, args[6], initial, add), strict=True):
            _store(context, builder, signature, args, 7, place, total)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (gradient, integer, integer, x, *[integer] * 3, into, integer, integer, taps, integer)
    return types.none(*kinds), codegen


@compiled
def weight_gradients(gradient, x, into, padding, stride, dilation, taps):
    """Adds to ``into`` (n, kh, kw, c), for every image by itself; gradient (n, h', w', c), x (n, h, w, c)."""
    n_images, height, width, channels = gradient.shape
    (above, left), (down, across), (dilated_down, dilated_across) = padding, stride, dilation
    line, lines = (x.shape[2] + 2 * left) * channels, into.shape[1]
    padded = np.zeros((x.shape[1] + 2 * above) * line, x.dtype)
    flat, flat_x, flat_into, inner = gradient.reshape(-1), x.reshape(-1), into.reshape(-1), x.shape[2] * channels
    for n in range(n_images):
        for h in range(x.shape[1]):
            convert(flat_x, (n * x.shape[1] + h) * inner, padded, (h + above) * line + left * channels, inner)
        for c in range(0, channels, LANES):
            for i in range(lines):
                first = (n * lines + i) * len(taps) * channels + c
                for h in range(height):
                    start = (n * height + h) * width * channels + c
                    seen = (h * down + i * dilated_down) * line + c
                    gather_taps(
                        flat, start, channels, padded, seen, across * channels, width,
                        flat_into, first, channels, taps, dilated_across * channels,
                    )  # fmt: skip
