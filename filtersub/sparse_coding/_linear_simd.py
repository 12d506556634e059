"""Vector instructions for linear codes: a tile of rows times a small matrix, in the precision of the rows."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._lasso_simd import _I64, _at, _for_range, _fused, _load, _splat, _store


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
            vector = _load(context, builder, signature, args, 3, place, width)
            following = []
            for row, sum_ in enumerate(sums):
                number = builder.add(builder.add(args[1], k), builder.mul(args[2], _I64(row)))
                scalar = builder.load(_at(context, builder, signature, args, 0, number), typ=vector.type.element)
                following.append(_fused(builder, _splat(builder, scalar, width), vector, sum_))
            return following

        kind = ir.VectorType(context.get_data_type(signature.args[3].dtype), width)
        sums = _for_range(builder, args[2], [ir.Constant(kind, None)] * height, term)
        total = _load(context, builder, signature, args, 9, _I64(0), width)
        for row, sum_ in enumerate(sums):
            place = builder.add(args[7], builder.mul(args[8], _I64(row)))
            _store(context, builder, signature, args, 6, place, sum_)
            total = builder.fadd(total, sum_)
        _store(context, builder, signature, args, 9, _I64(0), total)
        return context.get_dummy_value()

    numbers = [types.int64] * 3
    kinds = (rows, *numbers[:2], coder, *numbers[:2], codes, *numbers[:2], total, tile, lanes)
    return types.none(*kinds), codegen
