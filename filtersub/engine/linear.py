"""Linear codes of many short rows, and what they reach: each in one pass over the rows."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import compiled
from .pursuit_vectors import LANES, correlate_lanes, largest_lanes, subtract_lanes
from .vectors import I64, element_type, for_range, fused, load_scalar, load_vector, splat, store_vector


@compiled
def measure_rows(rows, codes, atoms, atoms_t, l2_penalty, totals):
    """``totals`` gets the squared residuals, the squared codes and the largest gradient.

    atoms_t : (d, width); atoms : (n_atoms, length); zero beyond the last atom or dimension; width and length are
    multiples of LANES. The codes are taken as they are stored, rounded to their dtype.
    """
    (d, width), length, n_atoms = atoms_t.shape, atoms.shape[1], codes.shape[1]
    x, fit, c, gradient = np.zeros(length), np.zeros(length), np.zeros(width), np.zeros(width)
    largest, residuals, squares = np.zeros(width), 0.0, 0.0
    for i in range(rows.shape[0]):
        for k in range(d):
            x[k] = rows[i, k]
        for j in range(n_atoms):
            c[j] = codes[i, j]
        square = 0.0
        for lane in range(0, length, LANES):
            square = correlate_lanes(c, 0, n_atoms, atoms, lane, length, fit, 0.0)
            subtract_lanes(1.0, fit, 0, lane, x)
        squares += square
        left = 0.0
        for lane in range(0, width, LANES):
            left = correlate_lanes(x, 0, d, atoms_t, lane, width, gradient, 0.0)
            if l2_penalty > 0:
                subtract_lanes(l2_penalty, c, 0, lane, gradient)
            largest_lanes(gradient, lane, largest)
        residuals += left
    totals[0], totals[1], totals[2] = residuals, squares, largest.max()


@intrinsic
def project_tile(typingctx, rows, first, d, coder, lane, width, codes, out_first, n_atoms, total, tile, lanes):
    """``codes[out_first + i n_atoms :] = sum_k rows[first + i d + k] coder[k width + lane :]`` for each i of a tile.

    ``tile`` and ``lanes`` are tuples of which the length counts: rows, and numbers of a vector. Rows are written in
    order, so where a vector is longer than a row of codes, what it spills is overwritten by the row after. What was
    written is added to ``total[:]`` too: NaN and infinity stay in it.
    """

    def codegen(context, builder, signature, args):
        height, width = signature.args[10].count, signature.args[11].count

        def term(k, sums):
            place = builder.add(builder.mul(k, args[5]), args[4])
            vector = load_vector(context, builder, signature, args, 3, place, width)
            following = []
            for row, sum_ in enumerate(sums):
                number = builder.add(builder.add(args[1], k), builder.mul(args[2], I64(row)))
                scalar = load_scalar(context, builder, signature, args, 0, number)
                following.append(fused(builder, splat(builder, scalar, width), vector, sum_))
            return following

        kind = ir.VectorType(element_type(context, signature, 3), width)
        sums = for_range(builder, args[2], [ir.Constant(kind, None)] * height, term)
        total = load_vector(context, builder, signature, args, 9, I64(0), width)
        for row, sum_ in enumerate(sums):
            place = builder.add(args[7], builder.mul(args[8], I64(row)))
            store_vector(context, builder, signature, args, 6, place, sum_)
            total = builder.fadd(total, sum_)
        store_vector(context, builder, signature, args, 9, I64(0), total)
        return context.get_dummy_value()

    numbers = [types.int64] * 3
    kinds = (rows, *numbers[:2], coder, *numbers[:2], codes, *numbers[:2], total, tile, lanes)
    return types.none(*kinds), codegen


@compiled
def project_rows(rows, coder, codes, total, n_atoms, tile, lanes):
    """``codes = rows coder``, and the sum of all codes, lane by lane, as ``total``.

    rows : flat, n_rows of d; coder : (d, width), of one dtype with the rows. A coder narrower than the lanes is filled
    up with zeros (so width is n_atoms or more); of a wider one, the last vector begins so that it ends with the row.
    """
    (d, width), n_lanes, height = coder.shape, len(lanes), len(tile)
    n_rows, flat = rows.size // d, coder.ravel()
    total[:] = 0
    whole = 0
    # the last row of a tile must not spill over the end
    while (whole + height - 1) * n_atoms + width <= codes.size and whole + height <= n_rows:
        for lane in range(0, width, n_lanes):
            lane = min(lane, width - n_lanes)
            project_tile(
                rows, whole * d, d, flat, lane, width, codes, whole * n_atoms + lane, n_atoms, total, tile, lanes
            )
        whole += height
    last = np.zeros(width, codes.dtype)
    for row in range(whole, n_rows):
        for lane in range(0, width, n_lanes):
            lane = min(lane, width - n_lanes)
            project_tile(rows, row * d, d, flat, lane, width, last, lane, n_atoms, total, (0,), lanes)
        for atom in range(n_atoms):
            codes[row * n_atoms + atom] = last[atom]
