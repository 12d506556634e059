"""Vector instructions that build the table of principal pivots: whole columns, ``len(lanes)`` float64 each."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._lasso_simd import _at, _for_bits, _fused, _load, _mask, _splat, _store, _zeros

_F64, _I64 = ir.DoubleType(), ir.IntType(64)


@intrinsic
def weigh_columns(typingctx, columns, first, gram, gram_first, members, out, lanes):
    """``out = sum over the members i of gram[gram_first + i] * column i``, the columns from ``columns[first:]`` on."""

    def codegen(context, builder, signature, args):
        width = signature.args[6].count

        def add(i, state):
            weight = builder.load(_at(context, builder, signature, args, 2, builder.add(args[3], i)), typ=_F64)
            place = builder.add(args[1], builder.mul(i, _I64(width)))
            column = _load(context, builder, signature, args, 0, place, width)
            return [_fused(builder, _splat(builder, weight, width), column, state[0])]

        (total,) = _for_bits(builder, args[4], [_zeros(width)], add)
        _store(context, builder, signature, args, 5, _I64(0), total)
        return context.get_dummy_value()

    return types.none(columns, types.int64, gram, types.int64, types.int64, out, lanes), codegen


@intrinsic
def border_columns(typingctx, columns, source, target, weights, members, atom, lanes):
    """``column i at target = column i at source - weights[i] * column atom at target`` for the members i.

    Except in lane ``atom``, where the source is left out. Columns of others are not touched: most of the table is
    zero, and a pass over all of it would take longer than the sums.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[6].count
        lane = builder.shl(_I64(1), args[5])
        others = _mask(builder, builder.not_(lane), width)
        place = builder.add(args[2], builder.mul(args[5], _I64(width)))
        last = _load(context, builder, signature, args, 0, place, width)

        def move(i, state):
            offset = builder.mul(i, _I64(width))
            weight = builder.fneg(builder.load(_at(context, builder, signature, args, 3, i), typ=_F64))
            column = _load(context, builder, signature, args, 0, builder.add(args[1], offset), width)
            column = builder.select(others, column, _zeros(width))
            column = _fused(builder, _splat(builder, weight, width), last, column)
            _store(context, builder, signature, args, 0, builder.add(args[2], offset), column)
            return state

        _for_bits(builder, args[4], [], move)
        return context.get_dummy_value()

    return types.none(columns, types.int64, types.int64, weights, types.int64, types.int64, lanes), codegen
