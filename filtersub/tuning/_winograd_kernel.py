"""Winograd's transforms of images and 3 x 3 kernels in channels-last memory, LANES channels at a time.

For F(m, r), m outputs of a filter of r taps in m + r - 1 products, filters and tiles are evaluated at as many points,
infinity being one, as polynomials whose product the result is; here one matrix serves each role, from both sides.
Values are (SIDE^2, tiles or outputs, channels): one matrix for each pair of points.
"""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np

from ..sparse_coding._lasso_jit import compiled
from ..sparse_coding._moves_simd import convert
from ._winograd_simd import LANES, both_sides

# and infinity; of the sets of small fractions that were tried these lose least: up to twice the error of plain sums
POINTS = tuple(Fraction(n, 4) for n in (0, 3, -3, 6, -6))
SIDE = len(POINTS) + 1
KERNEL = 3
TILE = SIDE + 1 - KERNEL


def _evaluated(n_terms: int) -> list[list[Fraction]]:
    """(SIDE, n_terms): a polynomial's values at the points; at infinity its last coefficient."""
    return [[p**k for k in range(n_terms)] for p in POINTS] + [[Fraction(k == n_terms - 1) for k in range(n_terms)]]


def _scaled(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Values at each point over the product of its distances from the others (Lagrange's denominators)."""
    scales = [prod(p - q for q in POINTS if q != p) for p in POINTS]
    return [[each / scale for each in row] for row, scale in zip(matrix, [*scales, 1], strict=True)]


def _with_roots(roots: list[Fraction]) -> list[Fraction]:
    """SIDE coefficients, the constant first, of the product of (x - root)."""
    product = [Fraction(1)]
    for root in roots:
        product = [a - root * b for a, b in zip([Fraction(0), *product], [*product, Fraction(0)], strict=True)]
    return product + [Fraction(0)] * (SIDE - len(product))


def _transposed(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    return [list(row) for row in zip(*matrix, strict=True)]


_of_input = both_sides([_with_roots([q for q in POINTS if q != p]) for p in POINTS] + [_with_roots(list(POINTS))])
_of_tile = both_sides(_scaled(_evaluated(TILE)))
_of_kernel = both_sides(_scaled(_evaluated(KERNEL)))
_to_tile = both_sides(_transposed(_evaluated(TILE)))
_to_kernel = both_sides(_transposed(_evaluated(KERNEL)))


@compiled
def evaluate_images(images, values, first, down, across, above, left, overlapping):
    """Images (n, h, w, c) in down x across tiles each, from tile ``first`` of ``values`` on.

    Tiles of TILE x TILE as filters; or ``overlapping`` ones of SIDE x SIDE as what a filter of 3 x 3 sees of an image
    with ``above`` lines and ``left`` columns of zeros before it. What lies outside is zero.
    """
    channels, step = images.shape[3], values.shape[1] * images.shape[3]
    edge = SIDE - TILE if overlapping else 0
    height, width, flat = down * TILE + edge, (across * TILE + edge) * channels, values.reshape(-1)
    inside = np.zeros(height * width, images.dtype)
    for n in range(images.shape[0]):
        _fill(images[n], inside, above, height, left * channels, width)
        for i in range(down):
            for j in range(across):
                begin = (first + (n * down + i) * across + j) * channels
                start = i * TILE * width + j * TILE * channels
                for c in range(0, channels, LANES):
                    if overlapping:
                        _of_input(inside, start + c, width, channels, flat, begin + c, SIDE * step, step)
                    else:
                        _of_tile(inside, start + c, width, channels, flat, begin + c, SIDE * step, step)


@compiled
def _fill(image, inside, above, height, before, width):
    """An image (h, w, c) into zeros (height, width), the rest of which nothing writes to."""
    flat, line = image.reshape(-1), image.shape[1] * image.shape[2]
    for h in range(min(image.shape[0], height - above)):
        convert(flat, h * line, inside, (h + above) * width + before, min(line, width - before))


@compiled
def interpolate_images(values, images, first, down, across):
    """The images (n, h, w, c) whose TILE x TILE tiles have these values; what lies outside is left out."""
    _, lines, columns, channels = images.shape
    step, flat, flat_images = values.shape[1] * channels, values.reshape(-1), images.reshape(-1)
    tile = np.empty(TILE * TILE * LANES, values.dtype)
    for n in range(images.shape[0]):
        for i in range(down):
            for j in range(across):
                begin = (first + (n * down + i) * across + j) * channels
                start = ((n * lines + i * TILE) * columns + j * TILE) * channels
                within = min(TILE, lines - i * TILE), min(TILE, columns - j * TILE)
                for c in range(0, channels, LANES):
                    if within == (TILE, TILE):
                        line = columns * channels
                        _to_tile(flat, begin + c, SIDE * step, step, flat_images, start + c, line, channels)
                        continue
                    _to_tile(flat, begin + c, SIDE * step, step, tile, 0, TILE * LANES, LANES)
                    for a in range(within[0]):
                        for b in range(within[1]):
                            place = start + (a * columns + b) * channels + c
                            convert(tile, (a * TILE + b) * LANES, flat_images, place, LANES)


@compiled
def evaluate_kernels(kernels, values, first):
    """Kernels (o, 3, 3, i), turned by half a turn, from output ``first`` of ``values`` on."""
    channels, step = kernels.shape[3], values.shape[1] * kernels.shape[3]
    flat, flat_values, size = kernels.reshape(-1), values.reshape(-1), KERNEL * KERNEL * channels
    for o in range(kernels.shape[0]):
        last, begin = (o + 1) * size - channels, (first + o) * channels
        for c in range(0, channels, LANES):
            _of_kernel(flat, last + c, -KERNEL * channels, -channels, flat_values, begin + c, SIDE * step, step)


@compiled
def interpolate_kernels(values, kernels, first):
    """The kernels (o, 3, 3, i) that have the values from output ``first`` on."""
    channels, step = kernels.shape[3], values.shape[1] * kernels.shape[3]
    flat, flat_kernels, size = values.reshape(-1), kernels.reshape(-1), KERNEL * KERNEL * channels
    for o in range(kernels.shape[0]):
        begin, start = (first + o) * channels, o * size
        for c in range(0, channels, LANES):
            _to_kernel(flat, begin + c, SIDE * step, step, flat_kernels, start + c, KERNEL * channels, channels)
