"""Vector instructions that move numbers: between precisions, out of registers, and into near caches ahead of use."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._lasso_simd import _F32, _F64, _I32, _I64, _at, _for_bits, _for_range, _load, _store


@intrinsic
def fetch(typingctx, table, first, members, lanes):
    """Have the members of the vectors from ``table[first:]`` on brought near: bit i stands for vector i."""

    def codegen(context, builder, signature, args):
        width, pointer = signature.args[3].count, ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        per_line = 8  # float64 in a cache line

        def lines(i, state):
            for line in range(width // per_line):
                place = builder.add(args[1], builder.add(builder.mul(i, _I64(width)), _I64(line * per_line)))
                address = builder.bitcast(_at(context, builder, signature, args, 0, place), pointer)
                builder.call(prefetch, [address, _I32(0), _I32(3), _I32(1)])  # to be read, kept, data
            return state

        _for_bits(builder, args[2], [], lines)
        return context.get_dummy_value()

    return types.none(table, types.int64, types.int64, lanes), codegen


@intrinsic
def convert(typingctx, source, source_first, target, target_first, count):
    """``target[target_first :] = source[source_first :]`` for ``count`` numbers, each array float32 or float64.

    A plain loop would be compiled to gathers and scatters: numba counts negative indices from the end.
    """

    def codegen(context, builder, signature, args):
        kinds = [context.get_data_type(signature.args[array].dtype) for array in (0, 2)]

        def moved(values, width):
            wanted = ir.VectorType(kinds[1], width)
            if kinds[0] == kinds[1]:
                return values
            return builder.fpext(values, wanted) if kinds[1] == _F64 else builder.fptrunc(values, wanted)

        def step(width, before):
            def body(i, state):
                place = builder.add(before, builder.mul(i, _I64(width)))
                from_, to = (builder.add(args[first], place) for first in (1, 3))
                values = _load(context, builder, signature, args, 0, from_, width)
                _store(context, builder, signature, args, 2, to, moved(values, width))
                return state

            return body

        whole = builder.lshr(args[4], _I64(4))
        _for_range(builder, whole, [], step(16, _I64(0)))
        done = builder.shl(whole, _I64(4))
        _for_range(builder, builder.sub(args[4], done), [], step(1, done))
        return context.get_dummy_value()

    return types.none(source, types.int64, target, types.int64, types.int64), codegen


@intrinsic
def copy_vector(typingctx, source, target, first, lanes):
    """``target[first:] = source[:]`` for one vector, rounded where the target is float32."""

    def codegen(context, builder, signature, args):
        values = _load(context, builder, signature, args, 0, _I64(0), signature.args[3].count)
        if signature.args[1].dtype == types.float32:
            values = builder.fptrunc(values, ir.VectorType(_F32, values.type.count))
        _store(context, builder, signature, args, 1, args[2], values)
        return context.get_dummy_value()

    return types.none(source, target, types.int64, lanes), codegen
