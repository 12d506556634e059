"""Vector instructions of the descent: 64 rows side by side, one atom or one coordinate at a time.

Flat arrays of float32 or float64. A block of rows is laid out (d, 64) and its codes (n_atoms, 64), so that every
instruction works on whole vectors; where a block begins in its array is an argument.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..sparse_coding._lasso_simd import BLOCK, _fused, _splat

LANES = 16  # partial sums of a product over 64 rows
_I64 = ir.IntType(64)
_BYTES = {ir.FloatType(): 4, ir.DoubleType(): 8}


@intrinsic
def correlate(typingctx, atoms, first, size, rows, corr, place):
    """Write ``sum_k atoms[first + k] * rows[k]``, k < size, to the block of ``corr`` at ``place``."""

    def codegen(context, builder, signature, args):
        scalar = context.get_data_type(signature.args[0].dtype)

        def add(k, total):
            weight = _scalar(context, builder, signature, args, 0, builder.add(args[1], k))
            column = _vector(context, builder, signature, args, 3, builder.mul(k, _I64(BLOCK)), BLOCK)
            return _fused(builder, _splat(builder, weight, BLOCK), column, total)

        start = ir.Constant(ir.VectorType(scalar, BLOCK), None)
        _write(context, builder, signature, args, 4, args[5], _loop(builder, args[2], start, add))
        return context.get_dummy_value()

    return types.none(atoms, types.int64, types.int64, rows, corr, types.int64), codegen


@intrinsic
def descend(typingctx, gram, n_atoms, atom, inverse, corr, codes, l1, below):
    """Minimise over the codes of one atom, the others fixed: the correlation left, shrunk by l1, over the square.

    ``gram`` has a zero diagonal. ``below`` is 1, or 0 for codes that may not be negative.
    """

    def codegen(context, builder, signature, args):
        first, place = builder.mul(args[2], args[1]), builder.mul(args[2], _I64(BLOCK))

        def subtract(other, rest):
            weight = builder.fneg(_scalar(context, builder, signature, args, 0, builder.add(first, other)))
            column = _vector(context, builder, signature, args, 5, builder.mul(other, _I64(BLOCK)), BLOCK)
            return _fused(builder, _splat(builder, weight, BLOCK), column, rest)

        start = _vector(context, builder, signature, args, 4, place, BLOCK)
        rest = _loop(builder, args[1], start, subtract)
        l1, zero = _splat(builder, args[6], BLOCK), ir.Constant(rest.type, None)
        upper, lower = builder.fsub(rest, l1), builder.fadd(rest, l1)
        upper = builder.select(builder.fcmp_ordered(">", upper, zero), upper, zero)
        lower = builder.select(builder.fcmp_ordered("<", lower, zero), lower, zero)
        shrunk = builder.fadd(upper, builder.fmul(lower, _splat(builder, args[7], BLOCK)))
        shrunk = builder.fmul(shrunk, _splat(builder, args[3], BLOCK))
        _write(context, builder, signature, args, 5, place, shrunk)
        return context.get_dummy_value()

    dtype = gram.dtype
    return types.none(gram, types.int64, types.int64, dtype, corr, codes, dtype, dtype), codegen


@intrinsic
def accumulate(typingctx, left, first, others, count, sums, place):
    """Add the products of one vector of ``left`` with ``count`` vectors of ``others`` to their LANES partial sums."""

    def codegen(context, builder, signature, args):
        parts = range(0, BLOCK, LANES)
        own = [_vector(context, builder, signature, args, 0, builder.add(args[1], _I64(p)), LANES) for p in parts]

        def add(k, _):
            start, target = builder.mul(k, _I64(BLOCK)), builder.add(args[5], builder.mul(k, _I64(LANES)))
            total = _vector(context, builder, signature, args, 4, target, LANES)
            for part, vector in zip(parts, own, strict=True):
                other = _vector(context, builder, signature, args, 2, builder.add(start, _I64(part)), LANES)
                total = _fused(builder, vector, other, total)
            _write(context, builder, signature, args, 4, target, total)

        _loop(builder, args[3], None, add)
        return context.get_dummy_value()

    return types.none(left, types.int64, others, types.int64, sums, types.int64), codegen


@intrinsic
def fold(typingctx, source, first, count, width, block):
    """``block[k, r] = source[first + r, k]``, r < count, k < width: rows side by side."""

    def codegen(context, builder, signature, args):
        def move(r, k):
            from_, to = _place_in_rows(builder, args, r, k), builder.add(builder.mul(k, _I64(BLOCK)), r)
            _copy(context, builder, signature, args, (0, from_), (4, to))

        _for_each(builder, args[2], args[3], move)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, types.int64, block), codegen


@intrinsic
def unfold(typingctx, target, first, count, width, block):
    """``target[first + r, k] = block[k, r]``: the inverse of fold."""

    def codegen(context, builder, signature, args):
        def move(r, k):
            from_, to = builder.add(builder.mul(k, _I64(BLOCK)), r), _place_in_rows(builder, args, r, k)
            _copy(context, builder, signature, args, (4, from_), (0, to))

        _for_each(builder, args[2], args[3], move)
        return context.get_dummy_value()

    return types.none(target, types.int64, types.int64, types.int64, block), codegen


def _place_in_rows(builder, args, r, k):
    return builder.add(builder.mul(builder.add(args[1], r), args[3]), k)


def _for_each(builder, rows, columns, do):
    _loop(builder, rows, None, lambda r, _: _loop(builder, columns, None, lambda k, _: do(r, k)))


def _copy(context, builder, signature, args, source, target):
    """One number. Atomic, which costs nothing, but keeps LLVM from gathers and scatters, which cost far more."""
    (array, place), (other, to) = source, target
    address, dtype = _address(context, builder, signature, args, array, place)
    value = builder.load_atomic(address, "monotonic", _BYTES[dtype], typ=dtype)
    address, _ = _address(context, builder, signature, args, other, to)
    builder.store_atomic(value, address, "monotonic", _BYTES[dtype])


def _address(context, builder, signature, args, argument, index):
    array = context.make_array(signature.args[argument])(context, builder, args[argument])
    return builder.gep(array.data, [index], inbounds=True), context.get_data_type(signature.args[argument].dtype)


def _scalar(context, builder, signature, args, argument, index):
    address, dtype = _address(context, builder, signature, args, argument, index)
    return builder.load(address, typ=dtype)


def _vector(context, builder, signature, args, argument, index, width):
    address, dtype = _address(context, builder, signature, args, argument, index)
    return builder.load(address, align=4, typ=ir.VectorType(dtype, width))


def _write(context, builder, signature, args, argument, index, vector):
    address, _ = _address(context, builder, signature, args, argument, index)
    builder.store(vector, builder.bitcast(address, vector.type.as_pointer()), align=4)


def _loop(builder, count, state, body):
    """``for k in range(count): state = body(k, state)`` with the state in registers; None is no state."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    index.add_incoming(_I64(0), before)
    kept = None
    if state is not None:
        kept = builder.phi(state.type)
        kept.add_incoming(state, before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    following = body(index, kept)
    index.add_incoming(builder.add(index, _I64(1)), builder.block)
    if kept is not None:
        kept.add_incoming(following, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return kept
