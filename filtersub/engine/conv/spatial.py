"""Backward pass of a 3 x 3 convolution of whose weight F only ``F^T dW`` is wanted: dW itself is never formed.

For taps a and b, output channels o and input channels i, ``H[a, b] = sum over o, i of F[o, i, a] dW[o, i, b]`` is also
``sum over images, positions p and i of y[p, a, i] x[p stride + b, i]`` with the products ``y[p, a, i] = sum over o of
F[o, i, a] gradient[p, o]``, of which the input gradient is made too: ``dx[p stride + a] += y[p, a]``. So H takes 81
multiplications for each input channel and position in place of dW's 9 for each pair of channels. Products are made by
torch for a few images, or lines of one, at a time and used while they lie in cache. float32 or float64, in
channels-last memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import numpy as np
import torch
from torch import Tensor, nn

from ...kernels import KernelLayout
from ..compile import compiled, make_ready
from ..threads import work_together
from ..vectors import add_each, load, load_each, store, take

LANES = 8  # input channels side by side: nine sums and six vectors fit 16 registers of AVX2
_SIDE, _TAPS = 3, 9
_MOST_CONDITION = 100.0  # of I + B, where that of I is 9: solving with it costs a digit
_FEW = 64  # output channels below which products and H take as long as dx and dW
_PARTS = 2  # of the channels of an image, that a thread takes at a time
_PRODUCTS = 2**20  # numbers y that are made before they are used: 4 MB
_state = local()


def takes(layout: KernelLayout) -> bool:
    """Whether the kernel knows a layer: 3 x 3, no groups, whole vectors of input channels, not too few outputs."""
    return (
        layout.kind == "conv2d"
        and layout.block == (1, 1)
        and layout.groups == 1
        and layout.kernel_size == (_SIDE, _SIDE)
        and layout.input_channels % LANES == 0
        and layout.channels[0] >= _FEW
    )


def gradients(
    layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor, matrix: Tensor, with_bias: bool
) -> tuple[Tensor, Tensor | None, Tensor] | None:
    """Gradients of x, the bias and B = ``matrix`` of a layer that ``takes`` knows, run with ``weight = F (I + B)``.

    None for other tensors, and where I + B cannot be solved with: ``weight^T dW`` is ``(I + B)^T F^T dW``.
    """
    if x.ndim != 4 or x.dtype not in (torch.float32, torch.float64) or matrix.ndim != 2 or matrix.dtype != x.dtype:
        return None
    if not all(t.dtype == x.dtype and _lies_by_position(t) for t in (gradient, x, weight)):
        return None
    if x.is_meta:
        to_x, moments = _on_shapes(gradient, x, weight)
        return to_x, gradient.sum((0, 2, 3)) if with_bias else None, (torch.empty_like(moments) @ moments).to(x.dtype)
    identity = torch.eye(_TAPS, dtype=torch.float64)
    mixing = identity + matrix.detach().double().T
    inverse, _ = torch.linalg.inv_ex(mixing)
    size = max(torch.linalg.norm(mixing), torch.linalg.norm(identity))  # the weight was rounded as F + F B
    if not torch.linalg.norm(inverse) * size <= _MOST_CONDITION:  # neither where it is NaN
        return None
    to_x, moments = _input_gradient_and_moments(layer, gradient, x, weight)
    return to_x, gradient.sum((0, 2, 3)) if with_bias else None, (inverse @ moments).to(matrix.dtype)


def _input_gradient_and_moments(layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dx, and H (9, 9) of the weight, in float64."""
    at, seen, lines = (t.detach().permute(0, 2, 3, 1) for t in (gradient, x, weight))
    (n_images, height, width, n_out), n_in = at.shape, x.shape[1]
    lines, threads = lines.reshape(n_out, -1), torch.get_num_threads()
    # lines of the output, and images, whose products are made before they are used: a part for each thread
    n_cuts = min(height, -(-height * width * _TAPS * n_in // _PRODUCTS))
    high = -(-height // n_cuts)
    images = max(-(-threads // _PARTS), _PRODUCTS // (high * width * _TAPS * n_in))
    images = max(1, min(images, n_images))
    products = at.new_empty(images * high * width, _TAPS * n_in)
    into = np.zeros(seen.shape, products.numpy().dtype)
    size = -(-n_in // (_PARTS * LANES)) * LANES
    sums = np.zeros((n_images, -(-n_in // size), _TAPS, _TAPS, LANES), into.dtype)
    sizes = (width, layer.padding, layer.stride, layer.dilation, (0,) * _SIDE)

    def spread(begin: int, end: int, top: int, high: int) -> None:
        counter = np.zeros(1, np.int64)  # of parts that threads have taken
        n_parts = (end - begin) * sums.shape[1]

        def work() -> None:
            arrays = products.numpy(), seen[begin:end].numpy(), into[begin:end], sums[begin:end], counter
            _spread(*arrays, size, top, high, *sizes)

        def stop() -> None:
            counter[0] = n_parts

        work_together(work, min(threads, n_parts), stop)

    make_ready(("spatial", into.dtype), lambda: spread(0, 0, 0, 1))
    for begin in range(0, n_images, images):
        end = min(begin + images, n_images)
        for top in range(0, height, high):
            part = at[begin:end, top : top + high]
            rows = part.reshape(-1, n_out)
            torch.mm(rows, lines, out=products[: len(rows)])
            spread(begin, end, top, part.shape[1])
    moments = torch.from_numpy(sums.sum((0, 1, 4), dtype=np.float64))
    return torch.from_numpy(into).permute(0, 3, 1, 2), moments


def _on_shapes(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What _input_gradient_and_moments gives, without memory: operators of torch that cost as much."""
    products = gradient.permute(0, 2, 3, 1).flatten(0, 2) @ weight.permute(0, 2, 3, 1).flatten(1)
    taps = products.reshape(-1, _TAPS)
    return torch.empty_like(x), (taps.T @ taps).double()


@contextmanager
def meta_as_cpu() -> Iterator[None]:
    """Within, tensors on the meta device stand for the CPU's with channels last: their operations are counted.

    Operators on that device keep no order of memory.
    """
    _state.counts = True
    try:
        yield
    finally:
        _state.counts = False


def _lies_by_position(tensor: Tensor) -> bool:
    if tensor.is_meta:
        return getattr(_state, "counts", False)
    return tensor.device.type == "cpu" and tensor.is_contiguous(memory_format=torch.channels_last)


@compiled
def _spread(products, x, into, sums, counter, size, top, height, width, padding, stride, dilation, taps):
    """Adds input gradients to ``into`` (n, h, w, c), and to ``sums`` (n, parts, 9, 9, LANES), of images x and of
    ``height`` lines of the output, the first of which is ``top``.

    products (n height width, 9 c). Several threads may run this at once, each with its own part of the channels.
    """
    n_images, n_lines, n_columns, channels = x.shape
    n_parts, side, n_taps = sums.shape[1], len(taps), sums.shape[2]
    (pad_h, pad_w), (stride_h, stride_w), (dilation_h, dilation_w) = padding, stride, dilation
    across = n_columns + 2 * pad_w
    above, n_seen = top * stride_h - pad_h, (height - 1) * stride_h + (side - 1) * dilation_h + 1
    begin_line, end_line = max(0, above), min(n_lines, above + n_seen)  # of x, which these lines of the output see
    padded = np.empty(n_seen * across * size, x.dtype)
    spread = np.empty(padded.size, x.dtype)
    while True:
        part = take(counter)
        if part >= n_images * n_parts:
            return
        n, first = part // n_parts, part % n_parts * size
        count = min(size, channels - first)
        line, tap = across * count, dilation_w * count
        padded[:] = 0.0
        spread[:] = 0.0
        for h in range(begin_line, end_line):
            for w in range(n_columns):
                place = ((n * n_lines + h) * n_columns + w) * channels + first
                for c in range(0, count, LANES):
                    store(padded, (h - above) * line + (w + pad_w) * count + c, load(x, place + c, LANES))
        for h in range(height):
            for i in range(side):
                start = ((n * height + h) * width * n_taps + i * side) * channels + first
                target = (h * stride_h + i * dilation_h) * line
                for j in range(side):  # three taps of y by three of x: nine sums fit the registers
                    begin = ((part * n_taps + i * side) * n_taps + j * side) * LANES
                    sums_0 = load_each(sums, begin, LANES, taps, LANES)
                    sums_1 = load_each(sums, begin + n_taps * LANES, LANES, taps, LANES)
                    sums_2 = load_each(sums, begin + 2 * n_taps * LANES, LANES, taps, LANES)
                    seen = (h * stride_h + j * dilation_h) * line
                    for w in range(width):
                        for c in range(0, count, LANES):
                            step = w * stride_w * count + c
                            y = load_each(products, start + w * n_taps * channels + c, channels, taps, LANES)
                            nearby = load_each(padded, seen + step, tap, taps, LANES)
                            sums_0 = add_each(y[0], nearby, sums_0)
                            sums_1 = add_each(y[1], nearby, sums_1)
                            sums_2 = add_each(y[2], nearby, sums_2)
                            if j == 0:
                                for t in range(side):
                                    here = target + step + t * tap
                                    store(spread, here, load(spread, here, LANES) + y[t])
                    for t in range(side):
                        store(sums, begin + t * LANES, sums_0[t])
                        store(sums, begin + (n_taps + t) * LANES, sums_1[t])
                        store(sums, begin + (2 * n_taps + t) * LANES, sums_2[t])
        for h in range(begin_line, end_line):
            for w in range(n_columns):
                place = ((n * n_lines + h) * n_columns + w) * channels + first
                for c in range(0, count, LANES):
                    here = (h - above) * line + (w + pad_w) * count + c
                    store(into, place + c, load(into, place + c, LANES) + load(spread, here, LANES))
