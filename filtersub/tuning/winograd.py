"""The gradients of a 3 x 3 convolution by Winograd's minimal filtering: 36 products for each 144 of the plain sum.

S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, arXiv:1509.09308. The gradient of the
input is a convolution of the output's gradient with the kernels turned by half a turn; that of the weight one of the
input with the gradient's tiles as filters. Both become 36 matrix products. The forward pass stays torch's: a model
with an update of zero gives its outputs bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ..sparse_coding._threads import make_ready, over_rows
from . import _winograd_kernel as kernels
from ._winograd_kernel import KERNEL, SIDE, TILE
from ._winograd_simd import LANES
from .products import in_channels_last

_FEWEST_TILES = 48  # of a batch: with fewer, the transformed weights cost more than the products save
_LEAST_SAVED = 3  # times fewer products: tiles that lie half outside of small images are not worth it
_MOST_WEIGHTS = 2**23  # of a layer: evaluated they take four times their memory, twice, for as long as a layer takes
_PART = 2**20  # values of a part of the batch: what stays near the processor from one step to the next


def pays(layer: nn.Module, gradient: Tensor, x: Tensor, weight: Tensor) -> bool:
    """Whether a plain convolution (zero padding) of a batch on the CPU takes less time this way: of stride 1, with
    images that tiles of TILE x TILE cover without much beside them."""
    if not (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (KERNEL, KERNEL)
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and max(layer.padding) < KERNEL
        and layer.in_channels % LANES == layer.out_channels % LANES == 0
        and weight.numel() <= _MOST_WEIGHTS
        and in_channels_last(gradient, x, weight)
    ):
        return False
    n_tiles = len(x) * max(prod(_tiles(x)), prod(_tiles(gradient)))
    plain, fewer = KERNEL * KERNEL * gradient[:, 0].numel(), SIDE * SIDE * n_tiles
    return n_tiles >= _FEWEST_TILES and plain >= _LEAST_SAVED * fewer


def gradients(layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor, needs: list[bool]) -> tuple:
    """Gradients of input, weight and bias, those that are needed, each as a convolution's backward pass gives it.

    gradient (n, o, h', w'), x (n, i, h, w), weight (o, i, 3, 3), all in channels-last memory, and so are the results.
    """
    to_x = _input_gradient(layer, gradient, x, weight) if needs[0] else None
    to_weight = _weight_gradient(layer, gradient, x) if needs[1] else None
    return to_x, to_weight, gradient.sum((0, 2, 3)) if needs[2] else None


def _input_gradient(layer: nn.Conv2d, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    down, across = _tiles(x)
    (above, left), out = (KERNEL - 1 - side for side in layer.padding), torch.empty_like(x)
    turned = _evaluated_kernels(weight)
    for part in _parts(len(x), down * across * max(layer.in_channels, layer.out_channels)):
        values = _evaluated(gradient[part], down, across, above, left, overlapping=True)
        _interpolate(torch.bmm(values, turned), out[part], down, across)
    return out


def _weight_gradient(layer: nn.Conv2d, gradient: Tensor, x: Tensor) -> Tensor:
    (down, across), total = _tiles(gradient), None
    for part in _parts(len(x), down * across * max(layer.in_channels, layer.out_channels)):
        filters = _evaluated(gradient[part], down, across, 0, 0, overlapping=False).transpose(1, 2)
        images = _evaluated(x[part], down, across, *layer.padding, overlapping=True)
        total = torch.bmm(filters, images) if total is None else total.baddbmm_(filters, images)
    return _interpolated_kernels(total)


def _tiles(images: Tensor) -> tuple[int, int]:
    """Tiles (down, across) that cover images (n, c, h, w)."""
    return -(-images.shape[2] // TILE), -(-images.shape[3] // TILE)


def _last(images: Tensor) -> np.ndarray:
    """(n, c, h, w) in channels-last memory as the array (n, h, w, c)."""
    return images.detach().permute(0, 2, 3, 1).numpy()


def _parts(n_images: int, n_values: int) -> Iterator[slice]:
    """Equal parts of a batch whose images have ``n_values`` at each pair of points."""
    n_parts = min(n_images, -(-n_images * SIDE * SIDE * n_values // _PART))
    step = -(-n_images // n_parts)
    return (slice(first, first + step) for first in range(0, n_images, step))


def _evaluated(images: Tensor, down: int, across: int, above: int, left: int, *, overlapping: bool) -> Tensor:
    tiles = down * across
    out = images.new_empty(SIDE * SIDE, len(images) * tiles, images.shape[1])
    values = out.numpy()

    def evaluate(first: int, images: np.ndarray) -> None:
        kernels.evaluate_images(images, values, first * tiles, down, across, above, left, overlapping)

    _in_shares("images", evaluate, _last(images))
    return out


def _interpolate(values: Tensor, images: Tensor, down: int, across: int) -> None:
    given = values.numpy()

    def interpolate(first: int, images: np.ndarray) -> None:
        kernels.interpolate_images(given, images, first * down * across, down, across)

    _in_shares("images back", interpolate, _last(images))


def _evaluated_kernels(weight: Tensor) -> Tensor:
    out = weight.new_empty(SIDE * SIDE, *weight.shape[:2])
    values = out.numpy()
    _in_shares("kernels", lambda first, given: kernels.evaluate_kernels(given, values, first), _last(weight))
    return out


def _interpolated_kernels(values: Tensor) -> Tensor:
    _, outs, ins = values.shape
    out = values.new_empty(outs, KERNEL, KERNEL, ins).permute(0, 3, 1, 2)
    given = values.numpy()
    _in_shares("kernels back", lambda first, made: kernels.interpolate_kernels(given, made, first), _last(out))
    return out


def _in_shares(what: str, transform: Callable[[int, np.ndarray], None], array: np.ndarray) -> None:
    """``transform(first, part)`` for shares of the array's images or kernels, each of which is computed by itself."""
    share = max(1, -(-len(array) // (2 * torch.get_num_threads())))
    make_ready((f"winograd {what}", array.dtype), lambda: transform(0, array[:0]))
    over_rows(lambda number, part: transform(number * share, part), share, [array], 0, widen=False)
