"""Small matrices from both sides of a square of vectors, ``M X M^T``, their entries known to the compiler.

float32 or float64 throughout; nothing checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..sparse_coding._lasso_simd import _FUSE, _I64, _fused, _load, _store

LANES = 16


def both_sides(matrix: list[list[Fraction]]) -> Callable:
    """An intrinsic ``(x, first, down, across, out, begin, down_out, across_out)``: the square of LANES channels each at
    ``x[first + r down + c across :]`` becomes one at ``out[begin + r down_out + c across_out :]``."""
    rows, columns = range(len(matrix)), range(len(matrix[0]))

    @intrinsic
    def transform(typingctx, x, first, down, across, out, begin, down_out, across_out):
        def codegen(context, builder, signature, args):
            def place(start, row, step_down, column, step_across):
                shift = builder.mul(step_down, _I64(row))
                return builder.add(start, builder.add(shift, builder.mul(step_across, _I64(column))))

            square = [
                [
                    _load(context, builder, signature, args, 0, place(args[1], r, args[2], c, args[3]), LANES)
                    for c in columns
                ]
                for r in columns
            ]
            left = [_combined(builder, matrix, [square[r][c] for r in columns]) for c in columns]
            for r in rows:
                for c, vector in enumerate(_combined(builder, matrix, [left[s][r] for s in columns])):
                    _store(context, builder, signature, args, 4, place(args[5], r, args[6], c, args[7]), vector)
            return context.get_dummy_value()

        integer = types.int64
        return types.none(x, integer, integer, integer, out, integer, integer, integer), codegen

    return transform


def _combined(builder, matrix, vectors):
    """The combinations of the vectors that the rows of the matrix say."""
    return [_weighted(builder, row, vectors) for row in matrix]


def _weighted(builder, weights, vectors):
    kind, total = vectors[0].type, None
    terms = sorted(((w, v) for w, v in zip(weights, vectors, strict=True) if w), key=lambda term: term[0] != 1)
    for weight, vector in terms:
        if weight == 1:
            total = vector if total is None else builder.fadd(total, vector, flags=_FUSE)
        else:
            constant = ir.Constant(kind, [float(weight)] * kind.count)
            total = builder.fmul(constant, vector) if total is None else _fused(builder, constant, vector, total)
    return total
